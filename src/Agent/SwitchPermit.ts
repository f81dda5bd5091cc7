/**
 * The last question before a switch: does the manifest that named the target still hold (D14: freshness and no going back
 * are checked at dispatch and again just before the switch)? Asked once per activation; a resumed one goes on with the
 * verdict stored at its dispatch (D11).
 */
import { Context, Effect, Layer } from "effect"
import type { Reason } from "../Schema/Reasons.ts"
import { Artifacts } from "./Artifacts.ts"
import { AgentState } from "./State.ts"

export type PermitVerdict =
  | { readonly _tag: "Holds" }
  | { readonly _tag: "Fails"; readonly reason: Reason; readonly detail: string }
  /** The artifacts, or the keys, could not be had, which says nothing about them: ask again. */
  | { readonly _tag: "Unknown"; readonly reason: Reason; readonly detail: string }

/** Reasons that speak of the moment. */
const passing: ReadonlySet<Reason> = new Set<Reason>([
  "artifact-unavailable",
  "control-plane-unreachable",
  "shutting-down",
  "trust-file-invalid",
  "trust-file-unreadable"
])

export class SwitchPermit extends Context.Service<SwitchPermit, {
  readonly check: (rolloutId: string) => Effect.Effect<PermitVerdict>
}>()("nixfleet/Agent/SwitchPermit") {
  /** Asks the artifacts about the target of the record. */
  static readonly layer: Layer.Layer<SwitchPermit, never, AgentState | Artifacts> = Layer.effect(
    SwitchPermit,
    Effect.gen(function*() {
      const artifacts = yield* Artifacts
      const state = yield* AgentState
      const check = Effect.fnUntraced(function*(rolloutId: string) {
        const record = state.current().rollouts.get(rolloutId)?.record
        const refusal = record === undefined ? undefined : yield* artifacts.recheck(rolloutId, record.targetClosure)
        const verdict: PermitVerdict = refusal === undefined
          ? { _tag: "Holds" }
          : { _tag: passing.has(refusal.reason) ? "Unknown" : "Fails", ...refusal }
        return verdict
      })
      return SwitchPermit.of({ check })
    })
  )

  /** For tests: the verdict is read at each question and may change. */
  static readonly layerOf = (verdict: () => PermitVerdict) =>
    Layer.succeed(SwitchPermit, SwitchPermit.of({ check: () => Effect.sync(verdict) }))
}
