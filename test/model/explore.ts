/** Explores models as tests: the number of states is printed, and a counter-example is the failure's message. */
import { assert, it } from "@effect/vitest"
import { type Explored, modelOf } from "./models.ts"
import { search, told } from "./search.ts"

/** The machine is small, and shared. */
const timeoutMs = 1_200_000

export const explores = (all: ReadonlyArray<Explored>): void => {
  it.each(all.map((one) => [one.name, one] as const))("%s", { timeout: timeoutMs }, (name, one) => {
    const { broken, depth, states, transitions } = search(modelOf(one))
    console.log(`${name}: ${states} states, ${transitions} transitions, histories of up to ${depth} steps`)
    assert.strictEqual(broken === undefined ? "nothing is broken" : told(broken), "nothing is broken")
  })
}
