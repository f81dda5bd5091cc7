/** A directory on the checkout's own disk (a system's temporary directory may be memory), gone after `body`. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"

export async function inDirectory<A>(body: (directory: string) => Promise<A>): Promise<A> {
  const parent = join(import.meta.dirname, "../../dist")
  mkdirSync(parent, { recursive: true })
  const directory = mkdtempSync(join(parent, ".bench-"))
  try {
    return await body(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
