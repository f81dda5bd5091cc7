/** Every state of two rollouts, one after the other: `docs/invariants.md` says which, and what must hold in each. */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe("two rollouts, one after the other", () => {
  explores(explored.superseding)
})
