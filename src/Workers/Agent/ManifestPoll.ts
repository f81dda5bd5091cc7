/**
 * Looks every 30 s whether a new fleet or manifest was published (agent.md §2.3), so that a dispatch finds it verified and
 * a replay of an older one is known as such (D14). Conditional requests: nearly every look costs four short answers.
 *
 * Failures: an answer that cannot be had, and an artifact that does not verify, are logged by name and tried again with
 * back-off; what was accepted before stays.
 */
import { Effect, Result } from "effect"
import { Artifacts } from "../../Agent/Artifacts.ts"
import { Handshake } from "../../Agent/Handshake.ts"
import { Settings } from "../../Agent/Settings.ts"
import { logOf } from "../../Layers/Logging.ts"
import { millis } from "../../Schema/AgentConfig.ts"
import { retryAfterMs } from "../Backoff.ts"
import { done, failed, onCadence, wallMs } from "../Pacer.ts"

const log = logOf("agent_manifest_poll")

const turn = Effect.gen(function*() {
  const looked = yield* (yield* Artifacts).refresh
  if (Result.isSuccess(looked)) return done
  const { detail, reason, response } = looked.failure
  yield* log.warn("no new artifact was accepted", { reason, detail })
  return failed(response === undefined ? undefined : retryAfterMs(response.headers, yield* wallMs))
})

/** Never ends; a defect ends the process through the supervisor (house rule 7). */
export const manifestPoll = Effect.gen(function*() {
  const settings = yield* Settings
  yield* (yield* Handshake).done
  return yield* onCadence({ periodMs: millis(settings.manifestPollSecs), kick: Effect.never }, turn)
})
