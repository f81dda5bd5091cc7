/** The agent as one executable, made from the sources as they are; made once, and again only when its inputs changed. */
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")

export interface Executable {
  readonly file: string
  readonly sha256: string
  /** What its bundle is made of, relative to the checkout. */
  readonly modules: ReadonlyArray<string>
}

/** `dist/nixfleet-agent`, or a build of its own in `out`. Takes a few seconds when there is something to build. */
export function buildExecutable(out?: string): Executable {
  const args = out === undefined ? ["--if-stale"] : ["--out", out]
  const { status, stderr } = spawnSync(process.execPath, [join(root, "scripts/build-binary.mjs"), ...args], {
    encoding: "utf8"
  })
  if (status !== 0) throw new Error(`the executable was not built: ${stderr}`)
  const file = join(out ?? join(root, "dist"), "nixfleet-agent")
  return {
    file,
    sha256: createHash("sha256").update(readFileSync(file)).digest("hex"),
    modules: JSON.parse(readFileSync(`${file}.modules.json`, "utf8"))
  }
}
