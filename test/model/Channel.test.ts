/** Every state of an agent and its mirror, joined by a channel: `docs/invariants.md` says which, and what must hold in each. */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe("an agent and its mirror, joined by a channel", () => {
  explores(explored.channel)
})
