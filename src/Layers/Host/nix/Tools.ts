/** What `check` says about a host with Nix: whether its store, its tools and its settings are such that the driver works. */
import { Effect } from "effect"
import { bad, type Finding, good } from "../../Findings.ts"
import { runCommand } from "./Command.ts"
import type { NixActivatorConfig } from "./NixActivator.ts"
import { readSettings, refusal } from "./Settings.ts"
import { isSystemdHost } from "./System.ts"

/** Those of Nix answer `--version` like all others. */
const nixTools = ["nix-store", "nix-env"] as const
const otherTools = ["flock", "timeout", "sync"] as const

/** Changes nothing. `at`: the source of the option that chose the driver. */
export const nixFindings = Effect.fnUntraced(function*(config: NixActivatorConfig, at: string) {
  const { nix } = config
  const tools = [...nixTools, ...otherTools, ...isSystemdHost() ? ["systemd-run"] : []]
  const versions = yield* Effect.forEach(
    tools,
    (tool) =>
      Effect.map(runCommand(nix.command(tool, ["--version"])), (end) => ({
        tool,
        version: end._tag === "Exited" && end.code === 0 ? end.stdout.split("\n")[0]!.trim() : undefined
      }))
  )
  const missing = versions.filter(({ version }) => version === undefined).map(({ tool }) => tool)
  const present: Finding = missing.length === 0
    ? good(
      at,
      `${config.system === "nixos" ? "nix" : "darwin"} driver: ${versions[0]!.version ?? ""}, store ${nix.storeDir}`
    )
    : bad(at, `the driver cannot run ${missing.join(", ")}: not on the agent's path, or it does not start`)
  const settings = yield* Effect.result(readSettings(nix))
  if (settings._tag === "Failure") return [present, bad(at, settings.failure.detail)]
  const refused = refusal(settings.success)
  const { substituters } = settings.success
  return [
    present,
    refused === undefined ? good(at, "Nix checks the signatures of what it fetches") : bad(at, refused),
    substituters.length === 0
      ? bad(at, "Nix has no substituter: no closure can be fetched")
      : good(at, `closures come from ${substituters.map((address) => address.split("?")[0]).join(", ")}`)
  ]
})
