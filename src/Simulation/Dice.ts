/**
 * Where the chances of a virtual world come from: one stream of numbers from one seed (SplitMix32). The programs have
 * Effect's `Random`, seeded from here, so that a program that draws one number more does not change the weather.
 */
export class Dice {
  #state: number

  /** Any text; the same text, the same numbers. */
  constructor(seed: string) {
    let hash = 0x811c9dc5
    for (const character of seed) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193)
    this.#state = hash >>> 0
  }

  /** From 0 (included) to 1 (not included). */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 0x1_0000_0000
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  pick<A>(from: readonly [A, ...ReadonlyArray<A>]): A {
    return from[this.between(0, from.length - 1)] ?? from[0]
  }
}
