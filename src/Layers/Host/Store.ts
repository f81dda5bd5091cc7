/**
 * The closures of one host: `store/<closure>/`, valid only while `store/.valid/<closure>` exists, which is written last and
 * removed first. Owns that directory. A kill -9 or a power cut at any point leaves valid closures and `.tmp-…` entries
 * or unmarked directories, which the next start sweeps. Files are read-only; nothing checks them again after the
 * marker is there.
 */
import { chmod, mkdir, readdir, rename, stat } from "node:fs/promises"
import { join } from "node:path"
import { temporaryPrefix, writeAtomically } from "../Disk/AtomicFile.ts"
import {
  makeDirectory,
  removeDurably,
  removeTree,
  sweepTemporaries,
  syncPath,
  temporaryBeside,
  unlessAbsent
} from "./DurableFiles.ts"

const markers = ".valid"

export class Store {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  path(closure: string): string {
    return join(this.directory, closure)
  }

  /** Makes the directories and deletes everything that is not a valid closure. */
  async open(): Promise<void> {
    for (const directory of [this.directory, join(this.directory, markers)]) await makeDirectory(directory, 0o755)
    await sweepTemporaries(this.directory)
    await sweepTemporaries(join(this.directory, markers))
    const valid = new Set(await this.list())
    for (const name of await readdir(this.directory)) {
      if (name !== markers && !valid.has(name)) await removeTree(this.path(name))
    }
  }

  /** Names of the valid closures, the latest made first. */
  async list(): Promise<ReadonlyArray<string>> {
    const names = (await readdir(join(this.directory, markers))).filter((name) => !name.startsWith(temporaryPrefix))
    const made = await Promise.all(
      names.toSorted().map(async (name) => ({
        name,
        at: (await stat(join(this.directory, markers, name))).mtimeMs
      }))
    )
    return made.toSorted((a, b) => b.at - a.at).map(({ name }) => name)
  }

  async isValid(closure: string): Promise<boolean> {
    return (await unlessAbsent(stat(join(this.directory, markers, closure)))) !== undefined
  }

  /** A private directory to build a closure in; the caller commits or deletes it. */
  async begin(closure: string): Promise<string> {
    const temporary = temporaryBeside(this.path(closure))
    await mkdir(temporary, { mode: 0o700 })
    return temporary
  }

  /** Makes a finished, flushed directory the closure. `sha256` is kept for people who look. */
  async commit(closure: string, temporary: string, sha256: string): Promise<void> {
    await chmod(temporary, 0o755)
    await removeTree(this.path(closure))
    await rename(temporary, this.path(closure))
    await syncPath(this.directory)
    writeAtomically(join(this.directory, markers, closure), Buffer.from(`${sha256}\n`))
  }

  async remove(closure: string): Promise<void> {
    await removeDurably(join(this.directory, markers, closure))
    await removeTree(this.path(closure))
  }
}
