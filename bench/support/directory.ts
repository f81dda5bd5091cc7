/** Directories for one measurement, gone after `body`. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"

/** On the checkout's own disk: a system's temporary directory may be memory. */
export function inDirectory<A>(body: (directory: string) => Promise<A>): Promise<A> {
  const parent = join(import.meta.dirname, "../../dist")
  mkdirSync(parent, { recursive: true })
  return within(parent, body)
}

/** In memory, where a flush costs nothing and what a program does besides is seen. */
export const inMemory = <A>(body: (directory: string) => Promise<A>): Promise<A> => within("/dev/shm", body)

async function within<A>(parent: string, body: (directory: string) => Promise<A>): Promise<A> {
  const directory = mkdtempSync(join(parent, ".bench-"))
  try {
    return await body(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
