/** Larger bounds, minutes each: NIXFLEET_MODEL=large (`docs/invariants.md`). */
import { describe } from "@effect/vitest"
import { explores } from "./explore.ts"
import { explored } from "./models.ts"

describe.runIf(process.env["NIXFLEET_MODEL"] === "large")("beyond the bounds of the other models", () => {
  explores(explored.large)
})
