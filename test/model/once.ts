/** What is asked of a value once, by the value itself: the search meets every value again as the very object. */
export class Once<K extends object, A> {
  readonly #known = new WeakMap<K, Map<unknown, A>>()

  /** `about` tells apart what is asked. */
  of(value: K, about: unknown, ask: () => A): A {
    const answers = this.#known.get(value) ?? new Map<unknown, A>()
    this.#known.set(value, answers)
    const known = answers.get(about)
    if (known !== undefined) return known
    const answer = ask()
    answers.set(about, answer)
    return answer
  }
}
