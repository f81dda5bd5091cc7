/** Named checks with PASS or FAIL, each with what was found and when. */
import { Cause, Effect, Exit } from "effect"
import type { Transcript } from "./Transcript.ts"

export class Checks {
  readonly #transcript: Transcript
  readonly #begun = performance.now()
  #passed = 0
  readonly #failed: Array<string> = []

  constructor(transcript: Transcript) {
    this.#transcript = transcript
  }

  say(text: string): void {
    this.#transcript.print(`${((performance.now() - this.#begun) / 1000).toFixed(1).padStart(6)} s  ${text}`)
  }

  /** One that compares what was found with what must be. */
  is(name: string, found: unknown, expected: unknown): void {
    const [shown, wanted] = [JSON.stringify(found), JSON.stringify(expected)]
    this.that(name, shown === wanted, shown === wanted ? shown : `${shown} instead of ${wanted}`)
  }

  that(name: string, isSo: boolean, detail: string): void {
    if (isSo) this.#passed += 1
    else this.#failed.push(name)
    this.say(`${isSo ? "PASS" : "FAIL"}  ${name}: ${detail}`)
  }

  /** A chapter that cannot go on is a failed check, and not the end of the others. */
  chapter<E, R>(title: string, body: Effect.Effect<void, E, R>): Effect.Effect<void, never, R> {
    return Effect.gen({ self: this }, function*() {
      this.#transcript.print("")
      this.say(title)
      const exit = yield* Effect.exit(body)
      if (Exit.isFailure(exit)) this.that(`${title}, to its end`, false, Cause.pretty(exit.cause).split("\n")[0] ?? "")
    })
  }

  /** Prints the sum; whether all passed. */
  end(): boolean {
    this.#transcript.print("")
    this.say(`${this.#passed} passed, ${this.#failed.length} failed`)
    for (const name of this.#failed) this.#transcript.print(`          failed: ${name}`)
    return this.#failed.length === 0
  }
}
