/**
 * `nixfleet release sign`: sets `signedAt`, signs fleet and manifests, and publishes them as one unit (D14). Revocations and
 * bootstrap nonces that are published there are signed anew with it.
 */
import { Clock, Console, Effect, Option, Path } from "effect"
import { Command, Flag } from "effect/cli"
import { decodeFleetResolved, decodeRolloutManifest, type FleetResolved } from "../../Schema/Artifacts.ts"
import { formatTimestamp, type Millis } from "../../Schema/Primitives.ts"
import { parseStrict } from "../../Trust/CanonicalJson.ts"
import { failed } from "../Failure.ts"
import { publish, readIfPresent, readInput } from "../Files.ts"
import { jsonFlag, printJson } from "../Output.ts"
import { belongsTo, fleetFile, manifestFile, projectManifests, rolloutIdOfManifest, signRelease } from "../Release.ts"
import { describeRelease, releaseAsJson } from "../ReleaseText.ts"
import { nonceList, refreshList, revocationList } from "../SignedList.ts"
import { signing, signingFlags } from "../Signing.ts"

const flags = {
  dir: Flag.String("dir").pipe(
    Flag.withAlias("d"),
    Flag.withDescription("Directory that `release build` wrote, or a signed release to sign again")
  ),
  ...signingFlags,
  out: Flag.String("out").pipe(
    Flag.withAlias("o"),
    Flag.optional,
    Flag.withDescription("Directory to publish into; the release's own directory when not given")
  ),
  json: jsonFlag
}

const parseFleet = Effect.fnUntraced(function*(bytes: Uint8Array, path: string) {
  const parsed = parseStrict(bytes)
  const decoded = parsed.ok ? decodeFleetResolved(parsed.value) : { ok: false as const, problem: parsed.problem.detail }
  return decoded.ok ? decoded.value : yield* failed(`${path} is not a fleet: ${decoded.problem}`)
})

/** Fleet and manifests come from one build: a manifest of another one would be signed unseen. */
const checkManifests = Effect.fnUntraced(function*(fleet: FleetResolved, directory: string) {
  const paths = yield* Path.Path
  for (const expected of projectManifests(fleet, "0".repeat(64))) {
    const path = paths.join(directory, manifestFile(rolloutIdOfManifest(expected)))
    const parsed = parseStrict(yield* readInput(path, "manifest"))
    const decoded = parsed.ok ? decodeRolloutManifest(parsed.value) : undefined
    if (decoded?.ok !== true || !belongsTo(decoded.value, fleet)) {
      return yield* failed(`${path} was not built from the fleet beside it: build the release again`)
    }
  }
})

/** Hosts that took the published release would refuse an older one as rolled back (D14), so it must not get out. */
const checkNotOlder = Effect.fnUntraced(function*(directory: string, signedAt: Millis) {
  const path = (yield* Path.Path).join(directory, fleetFile)
  const bytes = yield* readIfPresent(path, "published fleet")
  if (bytes === undefined) return
  const published = (yield* parseFleet(bytes, path)).meta.signedAt
  if (published !== null && published > signedAt) {
    return yield* failed(
      `${directory} holds a release signed at ${formatTimestamp(published)}, after this machine's time `
        + `${formatTimestamp(signedAt)}: hosts would refuse the new one as rolled back`
    )
  }
})

export const releaseSign = Command.make(
  "sign",
  flags,
  Effect.fnUntraced(function*({ dir, json, out, ...given }) {
    const paths = yield* Path.Path
    const target = Option.getOrElse(out, () => dir)
    const signer = yield* signing(given)
    const source = paths.join(dir, fleetFile)
    const fleet = yield* Effect.flatMap(readInput(source, "fleet"), (bytes) => parseFleet(bytes, source))
    yield* checkManifests(fleet, dir)
    const signedAt = Math.floor(yield* Clock.currentTimeMillis)
    yield* checkNotOlder(target, signedAt)
    const release = yield* signRelease(fleet, signedAt, signer)
    // The lists beside the release age as it does.
    yield* refreshList(revocationList, target, signer)
    yield* refreshList(nonceList, target, signer)
    yield* publish(release.files.map((file) => ({ ...file, path: paths.join(target, file.path) })))
    if (json) return yield* printJson(releaseAsJson(target, fleet.meta.ciCommit, signedAt, release))
    const headline = `signed release ${fleet.meta.ciCommit ?? "without a commit"} at ${formatTimestamp(signedAt)}`
    yield* Console.log(describeRelease(`${headline}, published in ${target}`, release))
  })
).pipe(Command.withDescription("Sign a built release, or sign it anew before it grows stale"))
