/** Every state of hosts in waves: `docs/invariants.md` says which, and what must hold in each. */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe("hosts in waves", () => {
  explores(explored.waves)
})
