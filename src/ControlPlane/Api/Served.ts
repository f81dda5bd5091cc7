/**
 * The routes as a service of the program: what the TLS server, or the simulated network, calls. Owns the tie between the end of
 * the program and its parked polls: when `Draining` begins, each is answered at once (D9).
 */
import { Effect, Layer } from "effect"
import { Draining } from "../../Layers/Net/Draining.ts"
import { Served } from "../../Layers/Net/Served.ts"
import { version } from "../../Schema/Version.ts"
import { Inbox } from "../Inbox.ts"
import { Journal } from "../Journal.ts"
import { Settings } from "../Settings.ts"
import { ControlPlaneState } from "../State.ts"
import * as projections from "../Views.ts"
import { Waiters } from "../Waiters.ts"
import { maxBodyBytes } from "./Contract.ts"
import { makeHandler } from "./Handler.ts"

export const layer = Layer.effect(
  Served,
  Effect.gen(function*() {
    const { agentCnSuffix, strict } = yield* Settings
    const { current } = yield* ControlPlaneState
    const { eventLog } = yield* Journal
    const draining = yield* Draining
    const waiters = yield* Waiters
    yield* Effect.acquireRelease(
      Effect.sync(() => draining.onBegin(waiters.drain)),
      (unregister) => Effect.sync(unregister)
    )
    return Served.of({
      handler: makeHandler({
        inbox: yield* Inbox,
        waiters,
        state: current,
        projections,
        eventLog,
        agentSuffix: agentCnSuffix,
        strict,
        version
      }),
      maxBodyBytes
    })
  })
)
