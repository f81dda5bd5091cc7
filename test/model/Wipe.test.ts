/** Every state of a control plane whose database is lost at any step: `docs/invariants.md` says which, and what must hold in each. */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe("a control plane whose database is lost at any step", () => {
  explores(explored.wipe)
})
