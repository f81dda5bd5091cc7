import { assert, describe, it } from "@effect/vitest"
import type { FleetResolved, RolloutManifest, Selector } from "../../src/Schema/Artifacts.ts"
import { decodeFleetResolved, decodeRolloutManifest, encodeRolloutManifest } from "../../src/Schema/Artifacts.ts"
import type { Decoded } from "../../src/Schema/Decode.ts"
import { reasons } from "../../src/Schema/Reasons.ts"
import {
  checkHostTarget,
  checkManifestFleet,
  checkManifestHosts,
  checkManifestId,
  fallbackSoakMs,
  hostEntry,
  normaliseFleet,
  projectManifest,
  resolvePolicy,
  rolloutIdOf,
  selects,
  soakMs
} from "../../src/Trust/FleetAndManifests.ts"
import { closure, commit, fleetJson, manifestJson, meta, signedAtText } from "../support/artifacts.ts"

function ok<A>(decoded: Decoded<A>): A {
  if (!decoded.ok) throw new Error(decoded.problem)
  return decoded.value
}
const fleet: FleetResolved = ok(decodeFleetResolved(fleetJson()))
const manifest: RolloutManifest = ok(decodeRolloutManifest(manifestJson()))
const fleetHash = "1".repeat(64)

describe("selectors", () => {
  const none: Selector = { tags: [], tagsAny: [], hosts: [], channel: null, all: false }
  const selected = (overrides: Partial<Selector>) =>
    Object.keys(fleet.hosts).filter((name) => selects({ ...none, ...overrides }, name, fleet.hosts[name]!)).toSorted()
  it.each<[string, Partial<Selector>, ReadonlyArray<string>]>([
    ["nothing said selects none", {}, []],
    ["all", { all: true }, ["db-1", "lab-1", "web-1", "web-2"]],
    ["hosts", { hosts: ["db-1", "unknown"] }, ["db-1"]],
    ["channel", { channel: "edge" }, ["lab-1"]],
    ["tags: all of them", { tags: ["web", "canary"] }, ["web-1"]],
    ["tagsAny: one of them", { tagsAny: ["canary", "db"] }, ["db-1", "web-1"]],
    ["clauses add up", { hosts: ["db-1"], channel: "edge", tags: ["canary"] }, ["db-1", "lab-1", "web-1"]]
  ])("%s", (_, overrides, expected) => assert.deepStrictEqual(selected(overrides), expected))
})

describe("all-at-once", () => {
  it("without waves means one wave of everybody without soak", () => {
    const policies = normaliseFleet(fleet).rolloutPolicies
    assert.strictEqual(policies["fast"]!.waves.length, 1)
    assert.deepInclude(policies["fast"]!.waves[0]!.selector, { all: true })
    assert.strictEqual(policies["careful"], fleet.rolloutPolicies["careful"])
  })
  it("with waves, and other strategies without, stay as they were signed", () => {
    const given = ok(decodeFleetResolved(fleetJson({
      rolloutPolicies: {
        a: { strategy: "canary", waves: [], onHealthFailure: "halt" },
        b: { strategy: "all-at-once", waves: [{ selector: { all: true }, soakMinutes: 5 }], onHealthFailure: "halt" }
      }
    })))
    assert.strictEqual(normaliseFleet(given), given)
  })
})

describe("the manifest of a channel", () => {
  it("lists its hosts in order, with wave, closure, budgets that touch them, and the fleet's hash", () => {
    const projected = projectManifest(fleet, fleetHash, "stable")
    assert.deepStrictEqual(projected && encodeRolloutManifest(projected), {
      ...manifestJson(),
      healthGate: { systemdFailedUnits: { max: 0 } },
      disruptionBudgets: [{
        selector: { tags: ["web"], tagsAny: [], hosts: [], channel: null, all: false },
        hosts: ["web-1", "web-2"],
        maxInFlight: 1,
        maxInFlightPct: null
      }],
      meta: { schemaVersion: 1, signedAt: signedAtText, ciCommit: commit }
    } as never)
    assert.strictEqual(rolloutIdOf(fleet, "stable"), `stable@${commit}`)
  })
  it("does not exist for a channel without a closure", () => {
    assert.isUndefined(projectManifest(fleet, fleetHash, "edge"))
    assert.isUndefined(rolloutIdOf(fleet, "edge"))
    assert.isUndefined(projectManifest(fleet, fleetHash, "constructor"))
  })
  it("has an empty ref when the release had no commit", () => {
    const without = ok(decodeFleetResolved(fleetJson({ meta: meta({ ciCommit: null }) })))
    assert.strictEqual(rolloutIdOf(without, "stable"), "stable@")
    assert.deepInclude(projectManifest(without, fleetHash, "stable"), { channelRef: "", displayName: "stable@unknown" })
  })
})

describe("a manifest that verified", () => {
  it("must be the one that was asked for", () => {
    assert.isUndefined(checkManifestId(manifest, `stable@${commit}`))
    for (const id of [`edge@${commit}`, `stable@${commit.slice(0, 8)}`, "stable@", "", `stable@${commit}@x`]) {
      assert.strictEqual(checkManifestId(manifest, id)?.reason, "manifest-other-rollout")
    }
  })
  it("must be made from the verified fleet", () => {
    assert.isUndefined(checkManifestFleet(manifest, fleetHash))
    assert.strictEqual(checkManifestFleet(manifest, "2".repeat(64))?.reason, "manifest-other-fleet")
  })
  it("must name the dispatched closure for this host", () => {
    assert.isUndefined(checkHostTarget(manifest, "db-1", closure("2", "db")))
    assert.strictEqual(checkHostTarget(manifest, "db-1", closure("1", "web"))?.reason, "manifest-other-target")
    assert.strictEqual(checkHostTarget(manifest, "db-2", closure("2", "db"))?.reason, "manifest-host-missing")
    assert.strictEqual(checkHostTarget(manifest, "", "")?.reason, "manifest-host-missing")
  })
  it("gives every host its entry, whatever the size", () => {
    const hosts = Array.from({ length: 1000 }, (_, index) => `h${String(index).padStart(4, "0")}`)
    const large = {
      ...manifest,
      hostSet: hosts.map((hostname, waveIndex) => ({ hostname, waveIndex, targetClosure: closure("1", "x") }))
    }
    for (const [index, hostname] of hosts.entries()) assert.strictEqual(hostEntry(large, hostname)?.waveIndex, index)
    for (const hostname of ["", "h", "h00000", "h1000", "z"]) assert.isUndefined(hostEntry(large, hostname))
    assert.isUndefined(hostEntry({ ...manifest, hostSet: [] }, "h0000"))
  })
})

describe("the policy of a host's rollout", () => {
  it("is its channel's, with the soak of its wave", () => {
    assert.deepStrictEqual(resolvePolicy(fleet, "stable", 0, 120_000), {
      onHealthFailure: "rollback-and-halt",
      soakMs: 30 * 60_000,
      sustainedFailureMs: 120_000,
      maxFailedUnits: 0
    })
  })
  it("has the health gate of the policy, also when it allows many, and none where there is none", () => {
    const { rolloutPolicies } = fleet
    const gated = (healthGate: { readonly systemdFailedUnits?: { readonly max: number } }) =>
      resolvePolicy(
        { ...fleet, rolloutPolicies: { ...rolloutPolicies, careful: { ...rolloutPolicies["careful"]!, healthGate } } },
        "stable",
        0,
        1
      )
    assert.strictEqual(gated({ systemdFailedUnits: { max: 7 } })?.maxFailedUnits, 7)
    assert.notProperty(gated({}), "maxFailedUnits")
  })
  it("soakSeconds wins over soakMinutes, also when it is 0", () => {
    assert.strictEqual(resolvePolicy(fleet, "stable", 1, 1)?.soakMs, 90_000)
    assert.strictEqual(soakMs({ soakMinutes: 5, soakSeconds: 0 }), 0)
    assert.strictEqual(soakMs({ soakMinutes: 5 }), 300_000)
  })
  it("falls back to the policy's own wave, then to an hour", () => {
    assert.strictEqual(resolvePolicy(normaliseFleet(fleet), "edge", 0, 1)?.soakMs, 0)
    assert.strictEqual(resolvePolicy(fleet, "edge", 0, 1)?.soakMs, fallbackSoakMs)
    assert.strictEqual(resolvePolicy(fleet, "stable", 7, 1)?.soakMs, fallbackSoakMs)
  })
  it("does not exist without its channel or policy", () => {
    assert.isUndefined(resolvePolicy(fleet, "unknown", 0, 1))
    assert.isUndefined(resolvePolicy(fleet, "constructor", 0, 1))
    assert.isUndefined(resolvePolicy(ok(decodeFleetResolved(fleetJson({ rolloutPolicies: {} }))), "stable", 0, 1))
  })
})

it("every mismatch has a name in the catalogue", () => {
  const names = [checkManifestId(manifest, ""), checkManifestFleet(manifest, ""), checkHostTarget(manifest, "", "")]
  for (const mismatch of names) assert.isTrue(mismatch !== undefined && Object.hasOwn(reasons, mismatch.reason))
})

describe("the hosts of a manifest (D14)", () => {
  const projected = projectManifest(fleet, fleetHash, "stable")!
  const entry = projected.hostSet[0]!
  const withHost = (host: typeof entry) => ({ ...projected, hostSet: [host] })

  it("are where the fleet has them, with the closures that it names", () => {
    assert.isUndefined(checkManifestHosts(projected, fleet))
  })

  it("may neither be of another channel, nor unknown, nor have another closure", () => {
    assert.strictEqual(checkManifestHosts({ ...projected, channel: "edge" }, fleet)?.reason, "manifest-other-fleet")
    for (const hostname of ["nobody", "constructor", "__proto__"]) {
      assert.strictEqual(checkManifestHosts(withHost({ ...entry, hostname }), fleet)?.reason, "manifest-other-fleet")
    }
    const other = withHost({ ...entry, targetClosure: closure("9", "other") })
    assert.strictEqual(checkManifestHosts(other, fleet)?.reason, "manifest-other-target")
  })

  it("may be in a wave of the fleet or of its policy only: each wave up to the last is made room for", () => {
    const check = (waveIndex: number, of: FleetResolved) =>
      checkManifestHosts(withHost({ ...entry, waveIndex }), of)?.reason
    const table = [[fleet, 2], [{ ...fleet, waves: {} }, 2], [{ ...fleet, waves: {}, rolloutPolicies: {} }, 1]] as const
    for (const [of, count] of table) {
      assert.isUndefined(check(count - 1, of))
      for (const index of [count, 4_294_967_295]) assert.strictEqual(check(index, of), "manifest-other-fleet")
    }
  })
})
