/** `nixfleet release build`: declaration in, unsigned fleet and manifests out. */
import { Console, Effect, FileSystem, Option, Path } from "effect"
import { Command, Flag } from "effect/cli"
import { decodeFleetDeclaration } from "../../Schema/FleetDeclaration.ts"
import { parseStrict } from "../../Trust/CanonicalJson.ts"
import { type Finding, resolveDeclaration } from "../Declaration.ts"
import { configError, failed } from "../Failure.ts"
import { publish, readInput } from "../Files.ts"
import { jsonFlag, printJson } from "../Output.ts"
import { buildRelease, fleetFile, type Release, signatureFile } from "../Release.ts"
import { describeRelease, releaseAsJson } from "../ReleaseText.ts"

const flags = {
  declaration: Flag.String("declaration").pipe(
    Flag.withAlias("d"),
    Flag.withDescription("JSON file that declares hosts, channels, policies, budgets and edges")
  ),
  out: Flag.String("out").pipe(
    Flag.withAlias("o"),
    Flag.withDescription("Directory for fleet.resolved.json and rollouts/<channel>@<ref>.json")
  ),
  ref: Flag.String("ref").pipe(
    Flag.optional,
    Flag.withDescription("The release's commit, in lower-case hex digits; overrides ref of the declaration")
  ),
  force: Flag.Boolean("force").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Replace a signed release in the output directory by this unsigned one")
  ),
  json: jsonFlag
}

const line = (finding: Finding) => `${finding.at}: ${finding.message}`

const readDeclaration = Effect.fnUntraced(function*(path: string) {
  const parsed = parseStrict(yield* readInput(path, "declaration"))
  if (!parsed.ok) return yield* configError(`declaration ${path}: ${parsed.problem.detail}`)
  const decoded = decodeFleetDeclaration(parsed.value)
  return decoded.ok ? decoded.value : yield* configError(`declaration ${path}:\n${decoded.problem}`)
})

/** A signature over other bytes would be published with the unsigned files: it goes first. */
const writeUnsigned = Effect.fnUntraced(function*(release: Release, directory: string, force: boolean) {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const signature = paths.join(directory, signatureFile(fleetFile))
  const isSigned = yield* Effect.orElseSucceed(fs.exists(signature), () => false)
  if (isSigned && !force) {
    return yield* failed(
      `${directory} holds a signed release: build into another directory, or replace it with --force`
    )
  }
  const files = release.files.map((file) => ({ ...file, path: paths.join(directory, file.path) }))
  for (const file of files) {
    yield* fs.remove(signatureFile(file.path), { force: true }).pipe(
      Effect.mapError((error) => failed(`cannot remove an old signature: ${error.message}`))
    )
  }
  yield* publish(files)
})

export const releaseBuild = Command.make(
  "build",
  flags,
  Effect.fnUntraced(function*({ declaration, force, json, out, ref }) {
    const declared = yield* readDeclaration(declaration)
    const chosen = Option.getOrUndefined(ref) ?? declared.ref
    if (chosen === undefined) return yield* configError(`declaration ${declaration} has no ref: add it, or give --ref`)
    const resolved = resolveDeclaration(declared, chosen)
    for (const warning of resolved.warnings) yield* Console.error(`warning: ${line(warning)}`)
    if (!resolved.ok) {
      const problems = resolved.problems.map((problem) => `  ${line(problem)}`)
      return yield* configError(`declaration ${declaration} can never work:\n${problems.join("\n")}`)
    }
    const release = buildRelease(resolved.fleet)
    yield* writeUnsigned(release, out, force)
    if (json) return yield* printJson(releaseAsJson(out, chosen, null, release))
    yield* Console.log(describeRelease(`built release ${chosen} into ${out}, not signed yet`, release))
  })
).pipe(Command.withDescription("Turn a fleet declaration into the artifacts of a release"))
