/** Files that the programs read: configuration, cached artifacts, and signed artifacts with the trust they are judged by. */
import { assert } from "@effect/vitest"
import { Effect, Result } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { gatherConfig } from "../../../src/Agent/Config.ts"
import { readConfigFile } from "../../../src/Layers/ConfigFile.ts"
import { ArtifactCache } from "../../../src/Layers/Disk/ArtifactCache.ts"
import { decodeUnit, encodeUnit } from "../../../src/Layers/Disk/ArtifactUnit.ts"
import { connectionTable } from "../../../src/Schema/ConnectionConfig.ts"
import { controlPlaneTable, crossCheck } from "../../../src/Schema/ControlPlaneConfig.ts"
import { type ConfigProblem, type ConfigSources, type Gathered, gatherOptions } from "../../../src/Schema/Options.ts"
import { sha256Hex } from "../../../src/Trust/CanonicalJson.ts"
import { keyProblems, readTrustRoots } from "../../../src/Trust/Keys.ts"
import { fleetKind, verify } from "../../../src/Trust/Verify.ts"
import { fleetJson, signed, signedAt, slot, trustJson } from "../../support/artifacts.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { utf8 } from "../../support/tls.ts"
import { mutated, oneOf, type Source } from "../Samples.ts"
import { checked, type Target } from "../Target.ts"

type Gather = (sources: ConfigSources) => Result.Result<Gathered<unknown>, ReadonlyArray<ConfigProblem>>

/** A file that decides everything: the whole configuration, or at least one problem, each with its place. */
const configuration = (name: string, gather: Gather, good: Readonly<Record<string, unknown>>): Target => ({
  name,
  source: mutated(oneOf([good, {}].map((value) => utf8(JSON.stringify(value))))),
  check: Effect.fnUntraced(function*(input) {
    const file = join(yield* temporaryDirectory, "config.json")
    writeFileSync(file, input)
    const gathered = gather({ flags: {}, environment: {}, file: yield* readConfigFile(file) })
    if (Result.isSuccess(gathered)) return
    assert.isNotEmpty(gathered.failure)
    for (const { at, message } of gathered.failure) assert.isTrue(at !== "" && message !== "")
  })
})

const configurations: ReadonlyArray<Target> = [
  configuration("config-agent", gatherConfig, {
    controlPlaneUrl: "https://cp.example:8443",
    machineId: "web-1",
    trustFile: "/etc/trust.json",
    caCert: "/etc/ca.pem",
    clientCert: "/etc/host.pem",
    clientKey: "/etc/host.key",
    archiveSource: "/closures",
    heartbeatSecs: 0.5,
    insecure: false,
    maxAnswerBytes: 1_048_576
  }),
  configuration("config-control-plane", (sources) => gatherOptions(controlPlaneTable, sources, crossCheck), {
    listen: "[::1]:8443",
    tlsCert: "/a",
    tlsKey: "/b",
    clientCa: "/c",
    agentCnSuffix: "fleet.test",
    releasesSource: "https://releases.example/",
    releasesTokenFile: "/d",
    strict: true,
    sweepSecs: 1
  }),
  configuration("config-connection", (sources) => gatherOptions(connectionTable, sources, () => []), {
    cpUrl: "https://cp.example",
    caCert: "/a",
    clientCert: "/b",
    clientKey: "/c"
  })
]

const fleet = signed(fleetJson())
const unit = encodeUnit([{ name: "fleet.resolved", ...fleet }, { name: "", bytes: utf8(""), signature: utf8("\n") }])

/** A torn or damaged unit is none; one that is taken is the same when it is written again. */
const cache: Target = {
  name: "artifact-cache",
  source: mutated(oneOf([unit, encodeUnit([])])),
  check: Effect.fnUntraced(function*(input) {
    const units = new Map([["fleet", input]])
    const read = yield* ArtifactCache.use((one) => one.read("fleet")).pipe(
      Effect.provide(ArtifactCache.layerMemory(units))
    )
    if (read !== undefined) assert.deepStrictEqual(decodeUnit(encodeUnit(read)), read)
  })
}

/** Signature (64 bytes), then the artifact. Only what was signed is ever accepted, whatever its spaces and order. */
const verification: Target = {
  name: "verification",
  source: mutated(oneOf([Buffer.concat([fleet.signature, fleet.bytes])])),
  check: checked((input) => {
    const verdict = verify({
      kind: fleetKind,
      signature: input.subarray(0, 64),
      bytes: input.subarray(64),
      slot: slot(),
      now: signedAt,
      windowMs: () => 3_600_000,
      highestSignedAt: () => undefined
    })
    if (verdict.ok) assert.strictEqual(verdict.hash, sha256Hex(fleet.bytes))
    else assert.isNotEmpty(verdict.detail)
  })
}

const rotation = trustJson({ current: slot().current, successor: slot().current, retireAt: "2026-06-01T08:00:00Z" })
const trustFile: Source = mutated(oneOf([trustJson(), rotation].map((value) => utf8(JSON.stringify(value)))))

/** Whatever the trust file says: a verdict, and the same one again. */
const trust: Target = {
  name: "trust-file",
  source: trustFile,
  check: checked((input) => {
    const roots = readTrustRoots(input)
    if (!roots.ok) return assert.isNotEmpty(roots.problem)
    const { ciReleaseKey } = roots.value
    keyProblems(ciReleaseKey)
    const ask = () =>
      verify({
        kind: fleetKind,
        ...fleet,
        slot: ciReleaseKey,
        now: signedAt,
        windowMs: () => 3_600_000,
        highestSignedAt: () => undefined
      })
    assert.deepStrictEqual(ask(), ask())
  })
}

export const files: ReadonlyArray<Target> = [...configurations, cache, verification, trust]
