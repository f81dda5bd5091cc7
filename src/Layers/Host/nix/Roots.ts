/**
 * Roots of the garbage collector that belong to nixfleet: `<state>/gcroots/nixfleet/<closure>`, each a link into the store.
 * Owns that directory. The links are made by Nix itself (`--add-root`): a collector that runs already has read the roots,
 * and only Nix can tell it of one more (nix.md §4). They are removed here.
 *
 * Beside a link, `<closure>.fetching` tells that a fetch began and was not made durable yet: after a power cut the database
 * of Nix may call a path valid whose files are empty. It is a plain file, which Nix takes for no root.
 */
import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import { writeAtomically } from "../../Disk/AtomicFile.ts"
import { removeDurably, sweepTemporaries } from "../DurableFiles.ts"
import type { Nix } from "./Nix.ts"

const fetching = ".fetching"
const noteOf = (closure: string): string => `${closure}${fetching}`

export class Roots {
  readonly directory: string

  constructor({ stateDir }: Nix) {
    this.directory = join(stateDir, "gcroots", "nixfleet")
  }

  async open(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o755 })
    await sweepTemporaries(this.directory)
  }

  /** The link that holds the closure. */
  path(closure: string): string {
    return join(this.directory, closure)
  }

  /** Closures that are held. */
  async list(): Promise<ReadonlyArray<string>> {
    const entries = await readdir(this.directory, { withFileTypes: true })
    return entries.filter((entry) => entry.isSymbolicLink()).map(({ name }) => name)
  }

  /** Lets go of a closure. */
  release(closure: string): Promise<void> {
    return removeDurably(this.path(closure))
  }

  /**
   * Notes that a fetch begins. `Unsure`: an earlier one began, and nobody saw what it wrote become durable; `Held`: the
   * closure is held and was durable, so there is nothing to fetch, and nothing is noted.
   */
  async beginFetch(closure: string): Promise<"New" | "Held" | "Unsure"> {
    const names = await readdir(this.directory)
    if (names.includes(noteOf(closure))) return "Unsure"
    if (names.includes(closure)) return "Held"
    writeAtomically(this.path(noteOf(closure)), Buffer.alloc(0))
    return "New"
  }

  /** What a fetch wrote is durable, or it wrote nothing. */
  async endFetch(closure: string): Promise<void> {
    if ((await readdir(this.directory)).includes(noteOf(closure))) await removeDurably(this.path(noteOf(closure)))
  }
}
