/** Where toy closures come from: built once for a test file by a `Builder`, whose switches behave in a chosen way. */
import { Effect } from "effect"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import { Builder, moveLink, removeStore, type ToySystem } from "../../examples/nix/Builder.ts"
import { noHosts } from "../../examples/nix/Namespace.ts"
import { switches, type SwitchKind, switchProgram } from "./closures.ts"

/** Why there can be no hosts with Nix here; `undefined` when there can. In CI they must be possible. */
export const noNix: string | undefined = (() => {
  const reason = noHosts()
  if (reason === undefined) return undefined
  if (process.env["CI"] !== undefined) throw new Error(reason)
  console.log(`skipped tests with a real Nix: ${reason}`)
  return reason
})()

const movesLink: ReadonlySet<SwitchKind> = new Set(["good", "partly"])

/** What a NixOS closure of this kind would run. */
export const nixSwitch = (kind: SwitchKind): string =>
  switchProgram(
    kind === "slow" ? `${switches.slow}\n${moveLink}` : `${movesLink.has(kind) ? moveLink : ""}${switches[kind]}`
  )

let shared: Builder | undefined
const built = new Map<string, Promise<string>>()
/** The builder of this test file. */
export const lab = (): Builder => shared ??= new Builder(mkdtempSync(join(tmpdir(), "nixfleet-nix-")))
afterAll(() => {
  if (shared !== undefined) removeStore(shared.directory)
})

/** Built and published once; answers its name. */
export const publishToy = (name: string, kind: SwitchKind, more: Partial<ToySystem> = {}) =>
  Effect.promise(() => {
    const system = { name, program: nixSwitch(kind), ...more }
    const key = JSON.stringify(system)
    const published = built.get(key) ?? lab().publish(system)
    built.set(key, published)
    return published
  })
