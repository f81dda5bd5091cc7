/**
 * The routes as a service of the program: what the TLS server, or the simulated network, calls. Owns the tie between the end of
 * the program and its parked polls: when `Draining` begins, each is answered at once (D9).
 */
import { Clock, Effect, Layer } from "effect"
import { TrustFile } from "../../Layers/Disk/TrustFile.ts"
import { Draining } from "../../Layers/Net/Draining.ts"
import { Served } from "../../Layers/Net/Served.ts"
import { ProcessUsage } from "../../Layers/ProcessUsage.ts"
import { namesOf } from "../../Schema/ControlPlaneConfig.ts"
import { version } from "../../Schema/Version.ts"
import { readTrustRoots } from "../../Trust/Keys.ts"
import { Inbox } from "../Inbox.ts"
import { Issuance } from "../Issuance.ts"
import { Journal } from "../Journal.ts"
import { Metrics } from "../Metrics.ts"
import { metricsOfState } from "../MetricsOfState.ts"
import { Settings } from "../Settings.ts"
import { ControlPlaneState } from "../State.ts"
import * as projections from "../Views.ts"
import { Waiters } from "../Waiters.ts"
import { TrustFileInvalid } from "./Api.ts"
import { maxBodyBytes } from "./Contract.ts"
import { makeHandler } from "./Handler.ts"

export const layer = Layer.effect(
  Served,
  Effect.gen(function*() {
    const { agentCnSuffix, operatorCn, strict } = yield* Settings
    const trustFile = yield* TrustFile
    const tokenKeys = Effect.gen(function*() {
      const roots = readTrustRoots(yield* trustFile.read)
      if (!roots.ok) return yield* new TrustFileInvalid({ reason: "trust-file-invalid", message: roots.problem })
      return roots.value.orgRootKey ??
        (yield* new TrustFileInvalid({ reason: "no-trust-roots", message: "the trust file has no orgRootKey" }))
    })
    const { current } = yield* ControlPlaneState
    const { eventLog, recentActions, usage } = yield* Journal
    const { counted, inboxDepth } = yield* Metrics
    const processUsage = yield* ProcessUsage
    const metrics = Effect.gen(function*() {
      const measured = {
        now: yield* Clock.currentTimeMillis,
        version,
        inboxDepth: inboxDepth(),
        journal: yield* usage,
        process: processUsage()
      }
      return metricsOfState(current(), measured) + counted()
    })
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
        recentActions,
        metrics,
        issuance: yield* Issuance,
        tokenKeys,
        operatorNames: new Set(namesOf(operatorCn)),
        agentSuffix: agentCnSuffix,
        strict,
        version
      }),
      maxBodyBytes
    })
  })
)
