/** Every state of hosts that share a budget of one: `docs/invariants.md` says which, and what must hold in each. */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe("hosts that share a budget of one", () => {
  explores(explored.budget)
})
