/** A program's command as a person runs it: a process of its own, to its end. */
import { spawnSync } from "node:child_process"
import { join } from "node:path"

export const agentMain = join(import.meta.dirname, "../../src/Main.ts")
export const controlPlaneMain = join(import.meta.dirname, "../../src/ControlPlane/Main.ts")

export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly errors: string
}

/** Nobody sits at a terminal; `PATH` is all of the environment but for `env`. */
export function runCommand(
  program: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Ended {
  const { status, stderr, stdout } = spawnSync(process.execPath, [program, ...args], {
    env: { PATH: process.env["PATH"] ?? "", ...env },
    encoding: "utf8",
    maxBuffer: 100_000_000,
    input: ""
  })
  return { code: status, out: stdout, errors: stderr }
}
