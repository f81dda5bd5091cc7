/** Nothing new is dispatched of a paused rollout (D8). Who is under way goes on, and waves that are complete advance. */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

export const paused: Gate = ({ paused: pause, rollout }) =>
  pause === undefined ? pass : {
    pass: false,
    gate: "paused",
    because: `the rollout is paused ${pause.by}`,
    clearedBy: `nixfleet rollout resume ${rollout.rolloutId}`,
    earliestAt: pause.until
  }
