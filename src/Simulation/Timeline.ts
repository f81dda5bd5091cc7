/**
 * The one time line of a virtual world: what is due, in order, and nothing else. Time passes only when nobody has anything
 * left to do at the present moment. No timer, no promise: everything that happens is a callback of this queue, so that a
 * seed replays a history (house rule 6, D20).
 */

interface Entry {
  readonly at: number
  /** Order of scheduling: what is due at the same moment happens in it. */
  readonly order: number
  readonly run: () => void
}

/** More callbacks than this without time passing: two parts of the world wake each other for ever. */
const stuckAfter = 1_000_000

const before = (a: Entry, b: Entry) => a.at < b.at || (a.at === b.at && a.order < b.order)

export class Timeline {
  /** Virtual milliseconds since the world began. */
  now = 0
  #order = 0
  /** A binary heap, the earliest entry first. */
  readonly #timers: Array<Entry> = []
  #ready: Array<() => void> = []

  /** Runs `run` at the present moment, after everything that is already waiting. */
  post(run: () => void): void {
    this.#ready.push(run)
  }

  /** Runs `run` when `delayMs` have passed. Cannot be taken back: who no longer wants it ignores it. */
  after(delayMs: number, run: () => void): void {
    const entry = { at: this.now + Math.max(0, delayMs), order: this.#order++, run }
    const heap = this.#timers
    let index = heap.length
    heap.push(entry)
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!before(entry, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = entry
  }

  /** Lets everything happen that is due until `end`, and stands there. */
  runUntil(end: number): void {
    this.drain()
    for (let next = this.#timers[0]; next !== undefined && next.at <= end; next = this.#timers[0]) {
      this.#takeFirst()
      this.now = next.at
      next.run()
      this.drain()
    }
    this.now = Math.max(this.now, end)
  }

  /** Lets everything happen that waits at the present moment. */
  drain(): void {
    for (let done = 0; this.#ready.length > 0;) {
      const ready = this.#ready
      this.#ready = []
      for (const run of ready) run()
      done += ready.length
      if (done > stuckAfter) throw new Error(`the virtual world does not come to rest at ${this.now} ms`)
    }
  }

  #takeFirst(): void {
    const heap = this.#timers
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let index = 0
    for (;;) {
      const left = 2 * index + 1
      if (left >= heap.length) break
      const child = left + 1 < heap.length && before(heap[left + 1]!, heap[left]!) ? left + 1 : left
      if (!before(heap[child]!, last)) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
  }
}
