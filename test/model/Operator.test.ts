/** Every state of a host while an operator acts: `docs/invariants.md` says which, and what must hold in each. */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe("an operator", () => {
  explores(explored.operator)
})
