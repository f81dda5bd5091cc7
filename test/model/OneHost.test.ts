/** Every state of one host and one rollout: `docs/invariants.md` says which, and what must hold in each. */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe("one host and one rollout", () => {
  explores(explored.oneHost)
})
