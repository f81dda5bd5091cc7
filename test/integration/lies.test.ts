/** A real agent at a control plane that lies, over mutual TLS: each lie is refused by its name, told, and changes nothing. */
import { assert, describe, layer } from "@effect/vitest"
import { Effect } from "effect"
import type { ExchangeHandler } from "../../src/Layers/Net/Exchange.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { allCapabilities, capabilitiesHeader } from "../../src/Schema/Wire.ts"
import { type Json, sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import {
  closure,
  fleetJson,
  manifestJson,
  meta,
  releaseSeed,
  seedOf,
  signed,
  type SignedBytes
} from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { eventually, makeFleet, noting, runs } from "../support/fleet.ts"
import { serve, textOf, utf8 } from "../support/tls.ts"

const host = "web-1"
const minute = 60_000
const fleetPath = "/v1/fleet.resolved"

interface Unit {
  readonly rolloutId: string
  readonly target: string
  readonly fleet: SignedBytes
  readonly manifest: SignedBytes
}

/** A release for one host that soaks a second. `change`: what is wrong with it, although it is signed. */
function release(
  ref: string,
  target: string,
  signedAt: number,
  change: { readonly seed?: Uint8Array; readonly fleet?: { [key: string]: Json }; readonly hostSet?: Json } = {}
): Unit {
  const seed = change.seed ?? releaseSeed
  const dated = { meta: meta({ signedAt: formatTimestamp(signedAt), ciCommit: ref }) }
  const wave = { soakMinutes: 1, soakSeconds: 1 }
  const fleet = signed(
    fleetJson({
      hosts: { [host]: { platform: "x86_64-linux", tags: [], channel: "stable", closureHash: target, pubkey: null } },
      rolloutPolicies: {
        careful: {
          strategy: "canary",
          waves: [{ selector: { all: true }, ...wave }],
          healthGate: {},
          onHealthFailure: "halt"
        },
        fast: { strategy: "all-at-once", waves: [], healthGate: {}, onHealthFailure: "halt" }
      },
      waves: { stable: [{ hosts: [host], ...wave }], edge: [] },
      edges: [],
      disruptionBudgets: [],
      ...dated,
      ...change.fleet
    }),
    seed
  )
  const manifest = signed(
    manifestJson({
      channelRef: ref,
      fleetResolvedHash: sha256Hex(fleet.bytes),
      hostSet: change.hostSet ?? [{ hostname: host, waveIndex: 0, targetClosure: target }],
      ...dated
    }),
    seed
  )
  return { rolloutId: `stable@${ref}`, target, fleet, manifest }
}

/** The text of a signed file, changed after it was signed, and still JSON. */
const tampered = ({ bytes, signature }: SignedBytes): SignedBytes => ({
  bytes: utf8(textOf(bytes).replace("\"stable\"", "\"stabel\"")),
  signature
})

interface Lie {
  readonly name: string
  readonly reason: string
  readonly unit: Unit
  readonly dispatch?: Readonly<Record<string, unknown>>
}

/** Largest artifact that the agent is told to take. */
const maxArtifactBytes = 65_536

/** `accepted`: when the release was signed that the host runs. */
function lies(accepted: number): ReadonlyArray<Lie> {
  const evil = closure("9", "evil")
  let refs = 0x10
  const unit = (signedAt = accepted + minute, change: Parameters<typeof release>[3] = {}) =>
    release((refs++).toString(16), evil, signedAt, change)
  const changed = (what: (good: Unit) => Partial<Unit>) => {
    const good = unit()
    return { ...good, ...what(good) }
  }
  return [
    { name: "tampered manifest", reason: "bad-signature", unit: changed((u) => ({ manifest: tampered(u.manifest) })) },
    { name: "tampered fleet", reason: "bad-signature", unit: changed((u) => ({ fleet: tampered(u.fleet) })) },
    { name: "wrongly signed", reason: "bad-signature", unit: unit(undefined, { seed: seedOf("stranger") }) },
    {
      name: "truncated",
      reason: "artifact-unparsable",
      unit: changed(({ manifest }) => ({ manifest: { ...manifest, bytes: manifest.bytes.slice(0, -20) } }))
    },
    {
      name: "oversized",
      reason: "artifact-too-large",
      unit: changed(({ manifest }) => ({ manifest: { ...manifest, bytes: new Uint8Array(maxArtifactBytes + 1) } }))
    },
    { name: "wrong-typed", reason: "artifact-unparsable", unit: unit(undefined, { fleet: { hosts: [] } }) },
    { name: "without this host", reason: "manifest-host-missing", unit: unit(undefined, { hostSet: [] }) },
    {
      name: "for another host",
      reason: "dispatch-other-host",
      unit: unit(),
      dispatch: { hostname: "web-2" }
    },
    {
      name: "to another closure",
      reason: "manifest-other-target",
      unit: unit(),
      dispatch: { target_closure: closure("8", "other") }
    },
    { name: "stale", reason: "stale", unit: unit(accepted - 240 * minute) },
    { name: "future-dated", reason: "future-dated", unit: unit(accepted + 120 * minute) },
    { name: "rolled-back", reason: "rolled-back", unit: unit(accepted - minute) }
  ]
}

describe("an agent at a control plane that lies", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("refuses every lie by its name, tells it, switches to none, and takes the truth that follows", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const note = fleet.at("runs")
        const [good, better] = [yield* fleet.pack("good", noting(note)), yield* fleet.pack("better", noting(note))]
        const accepted = Date.now() - 10 * minute

        let offer: Lie = { name: "truth", reason: "", unit: release("01", good, accepted) }
        const rejections = new Map<string, string>()
        const arrived: Array<string> = []
        const handler: ExchangeHandler = (request) =>
          Effect.sync(() => {
            const path = request.path.replace(/\?.*$/, "")
            const answer = (status: number, body: Uint8Array = new Uint8Array()) => ({
              status,
              headers: { [capabilitiesHeader]: allCapabilities.join(",") },
              body
            })
            const json = (value: unknown) => answer(200, utf8(JSON.stringify(value)))
            const manifestPath = `/v1/rollouts/${offer.unit.rolloutId}`
            switch (path) {
              case fleetPath:
                return answer(200, offer.unit.fleet.bytes)
              case `${fleetPath}/sig`:
                return answer(200, offer.unit.fleet.signature)
              case manifestPath:
                return answer(200, offer.unit.manifest.bytes)
              case `${manifestPath}/sig`:
                return answer(200, offer.unit.manifest.signature)
              case "/v1/agent/dispatch":
                return json({
                  hostname: host,
                  rollout_id: offer.unit.rolloutId,
                  target_closure: offer.unit.target,
                  soak_due_at: formatTimestamp(Date.now()),
                  enqueued_at: formatTimestamp(Date.now()),
                  attempt: 1,
                  ...offer.dispatch
                })
              case "/v1/agent/heartbeat": {
                const beat = JSON.parse(textOf(request.body)) as {
                  readonly rejections?: ReadonlyArray<{ readonly rollout_id: string; readonly reason: string }>
                }
                for (const one of beat.rejections ?? []) rejections.set(one.rollout_id, one.reason)
                return json({})
              }
              case "/v1/agent/events": {
                const { event, rolloutId } = JSON.parse(textOf(request.body)) as {
                  readonly rolloutId: string
                  readonly event: { readonly kind: string }
                }
                arrived.push(`${rolloutId} ${event.kind}`)
                return answer(204)
              }
              default:
                return answer(404)
            }
          })
        const { port } = yield* serve(handler, { maxBodyBytes: 1_048_576 })
        const agent = yield* fleet.agent(host, { controlPlaneUrl: `https://localhost:${port}`, maxArtifactBytes })
        yield* eventually("the truth", () => arrived.includes("stable@01 Converged") || arrived)

        for (const lie of lies(accepted)) {
          offer = lie
          yield* eventually(
            `${lie.name}: ${lie.reason}`,
            () => rejections.get(lie.unit.rolloutId) === lie.reason || [...rejections]
          )
        }
        assert.strictEqual(fleet.current(host), good)
        assert.isNull(agent.process.exitCode)

        offer = { name: "truth", reason: "", unit: release("ff", better, accepted + 2 * minute) }
        yield* eventually("the next truth", () => arrived.includes("stable@ff Converged") || arrived)
        assert.strictEqual(fleet.current(host), better)
        assert.lengthOf(runs(note), 2)
        // No lie became a record, and no event of the truths was lost between them; an offer told twice resends.
        const journaled = fleet.events(host).map(({ kind, rolloutId }) => `${rolloutId} ${kind}`)
        assert.isAtLeast(journaled.length, 8)
        assert.isTrue(journaled.every((one) => /^stable@(?:01|ff) /.test(one)), String(journaled))
        assert.sameMembers([...new Set(arrived)], [...new Set(journaled)])
      }))
  })
})
