/**
 * What happened in a virtual world, in order: lines for a person, and a hash over all of them. Two runs of one seed have
 * the same hash, or something in the world depends on what is not in the seed.
 */
import { createHash } from "node:crypto"

/** Lines kept for a person; the hash covers all. */
const keptLines = 20_000

export class Trace {
  readonly #hash = createHash("sha256")
  readonly #lines: Array<string> = []
  readonly #now: () => number

  /** `now`: virtual ms. */
  constructor(now: () => number) {
    this.#now = now
  }

  add(who: string, what: string): void {
    const line = `${(this.#now() / 1000).toFixed(3).padStart(9)} ${who.padEnd(14)} ${what}`
    this.#hash.update(line).update("\n")
    this.#lines.push(line)
    if (this.#lines.length > 2 * keptLines) this.#lines.splice(0, keptLines)
  }

  /** The last lines, oldest first. */
  get lines(): ReadonlyArray<string> {
    return this.#lines.slice(-keptLines)
  }

  digest(): string {
    return this.#hash.copy().digest("hex")
  }
}
