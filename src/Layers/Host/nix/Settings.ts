/**
 * The settings of Nix that decide whether signatures are checked and which caches are asked, as Nix itself reads them.
 *
 * A configuration that silently drops the check of signatures is refused: `require-sigs = false`, or `trusted=1` on a
 * cache's address (nix.md §3). Failures: Nix does not say, or says something else than expected.
 */
import { Effect, Result, Schema } from "effect"
import { type CommandEnd, describeEnd, runCommand } from "./Command.ts"
import type { Nix } from "./Nix.ts"

export interface NixSettings {
  readonly substituters: ReadonlyArray<string>
  readonly requireSignatures: boolean
  /** Passwords for caches, as curl reads them; need not exist. */
  readonly netrcFile: string
}

const setting = <A>(value: Schema.Codec<A>) => Schema.Struct({ value })
const Settings = Schema.fromJsonString(Schema.Struct({
  "substituters": setting(Schema.Array(Schema.String)),
  "require-sigs": setting(Schema.Boolean),
  "netrc-file": setting(Schema.String)
}))

/** The older command first: the newer one is refused at once by an old Nix, and this is asked at every fetch. */
const commands = [["show-config", "--json"], ["config", "show", "--json"]] as const

/** Nix did not say what it runs with. */
export interface NoSettings {
  readonly detail: string
  /** Another try may mend it: Nix was killed, took too long, or the host had no room for it. */
  readonly passing: boolean
}

/** What Nix runs with now. */
export const readSettings = Effect.fnUntraced(function*(nix: Nix) {
  let detail = ""
  for (const command of commands) {
    const spec = nix.command("nix", ["--extra-experimental-features", "nix-command", ...command])
    const end = yield* runCommand(spec)
    if (end._tag !== "Exited" || end.code !== 0) {
      detail = describeEnd(`nix ${command.join(" ")}`, end)
      if (isPassing(end)) return yield* Effect.fail<NoSettings>({ detail, passing: true })
      continue
    }
    const read = Schema.decodeUnknownResult(Settings)(end.stdout)
    if (Result.isFailure(read)) {
      detail = `nix ${command.join(" ")} said something unexpected: ${read.failure.message.split("\n")[0]}`
      continue
    }
    const settings: NixSettings = {
      substituters: read.success.substituters.value,
      requireSignatures: read.success["require-sigs"].value,
      netrcFile: read.success["netrc-file"].value
    }
    return settings
  }
  return yield* Effect.fail<NoSettings>({ detail, passing: false })
})

function isPassing(end: CommandEnd): boolean {
  switch (end._tag) {
    case "Exited":
      return false
    case "NotStarted":
      return !/\b(?:ENOENT|EACCES)\b/.test(end.problem)
    case "Signalled":
    case "Deadline":
      return true
  }
}

/** Nix takes every signature of such a store. */
function isTrustedStore(address: string): boolean {
  const query = address.split("?")[1] ?? ""
  return new URLSearchParams(query).getAll("trusted").some((value) => /^(?:1|true|yes)$/i.test(value))
}

/** Why these settings are refused; `undefined` when they are not. */
export function refusal({ requireSignatures, substituters }: NixSettings): string | undefined {
  if (!requireSignatures) return "Nix is configured with require-sigs = false: it would take what nobody signed"
  const trusted = substituters.find(isTrustedStore)
  return trusted === undefined
    ? undefined
    : `the substituter ${trusted} is configured with trusted=1: Nix would take what nobody signed`
}
