/**
 * The slots through which a commit wakes workers. A slot carries no facts (house rule 5): it says *look again*, and the
 * worker asks the published state what is owed. Ringing is synchronous and total; rings that nobody has looked at yet
 * are one ring. A lost ring is harmless: every worker also looks on its own schedule.
 */
import { Context, Effect, Layer, Queue } from "effect"

export type SlotName = "activation" | "probe" | "outbound" | "heartbeat"

export interface Slot {
  /** Marks the slot; wakes its worker if it waits. */
  readonly ring: () => void
  /** Suspends until the slot was rung since the last `rung` ended. One worker per slot. */
  readonly rung: Effect.Effect<void>
}

const makeSlot: Effect.Effect<Slot> = Effect.map(Queue.sliding<void>(1), (queue) => ({
  ring: () => {
    Queue.offerUnsafe(queue, undefined)
  },
  rung: Queue.take(queue)
}))

export class Intents extends Context.Service<Intents, Readonly<Record<SlotName, Slot>>>()("nixfleet/Agent/Intents") {
  static readonly layer = Layer.effect(
    Intents,
    Effect.all({ activation: makeSlot, probe: makeSlot, outbound: makeSlot, heartbeat: makeSlot })
  )
}
