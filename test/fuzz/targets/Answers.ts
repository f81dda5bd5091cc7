/**
 * The agent's workers against a control plane that answers with anything: what is hostile is refused by name, nothing dies,
 * nobody is hammered, and when answers become good again the host takes its dispatch.
 *
 * An input is text: answers separated by a line `===`, each `path status`, headers, a blank line, the body. They are given
 * in turn to requests whose path begins so, each once; then the control plane is a good one.
 */
import { assert } from "@effect/vitest"
import { Effect, type Fiber, Layer, Random } from "effect"
import { TestClock, TestConsole } from "effect/testing"
import { DispatchResponse, EventVerdict, HeartbeatResponse } from "../../../src/Schema/Wire.ts"
import { heartbeat } from "../../../src/Workers/Agent/Heartbeat.ts"
import { longpoll } from "../../../src/Workers/Agent/Longpoll.ts"
import { manifestPoll } from "../../../src/Workers/Agent/ManifestPoll.ts"
import { outbound } from "../../../src/Workers/Agent/Outbound.ts"
import { dispatched, fleetPath, manifestPath, release, releaseHost, rolloutId } from "../../support/agentReleases.ts"
import { minute, Rig, second, settled, stateNow } from "../../support/agentRig.ts"
import {
  type Answer,
  type Asked,
  capable,
  dispatchPath,
  eventsPath,
  heartbeatPath,
  idle,
  ok,
  Peer,
  publishing,
  type Script
} from "../../support/scriptedPeer.ts"
import { utf8 } from "../../support/tls.ts"
import { mutate } from "../Mutator.ts"
import { jsonOf, type Source } from "../Samples.ts"
import type { Target } from "../Target.ts"

const separator = "\n===\n"
const artifacts = release()

const head = (path: string, status: number, headers: Readonly<Record<string, string>> = capable) =>
  `${path} ${status}\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\n`).join("")}\n`

const at = "1970-01-01T00:00:00Z"
const snapshot = {
  rolloutId: "stable@99",
  hostname: releaseHost,
  channel: "stable",
  state: "Soaking",
  targetClosure: "x",
  dispatchedAt: at,
  lastEventSeq: 4
}
const bodies: ReadonlyArray<readonly [string, Source]> = [
  [
    heartbeatPath,
    jsonOf(HeartbeatResponse, [
      { replay_from: { [rolloutId]: 1 }, acked_through: { [rolloutId]: 9 } },
      { received_at: at, bootstrap_rollouts: [snapshot, { ...snapshot, rolloutId }] }
    ])
  ],
  [dispatchPath, jsonOf(DispatchResponse, [dispatched(), dispatched({ attempt: 2, last_event_seq: 3 })])],
  [eventsPath, jsonOf(EventVerdict, [{ verdict: "gap", reason: "seq-gap", replay_from: 0 }])],
  [fleetPath, () => Effect.succeed(artifacts[fleetPath]!.bytes)],
  [`${fleetPath}/sig`, () => Effect.succeed(artifacts[fleetPath]!.signature)],
  [manifestPath(), () => Effect.succeed(artifacts[manifestPath()]!.bytes)],
  [`${manifestPath()}/sig`, () => Effect.succeed(artifacts[manifestPath()]!.signature)]
]

const statuses = [200, 200, 200, 204, 304, 301, 400, 401, 403, 404, 409, 413, 422, 425, 429, 500, 503]
const oddHeaders: ReadonlyArray<Readonly<Record<string, string>>> = [
  capable,
  {},
  { ...capable, "retry-after": "1" },
  { ...capable, "retry-after": "99999999999999999999" },
  { "retry-after": "Wed, 21 Oct 1970 07:28:00 GMT" },
  { ...capable, etag: "\"x\"" },
  { ...capable, "x-nixfleet-replay-from": "18446744073709551615" },
  { ...capable, "x-nixfleet-replay-from": "1" }
]

const answers: Source = Effect.fnUntraced(function*(dice) {
  const parts: Array<Uint8Array> = []
  do {
    const [path, body] = dice.pick(bodies)
    const made = yield* body(dice)
    const first = utf8(head(path, dice.pick(statuses), dice.pick(oddHeaders)))
    parts.push(first, dice.chance(0.6) ? mutate(made, dice) : made, utf8(separator))
  } while (dice.chance(0.7))
  return Buffer.concat(parts)
})

interface Hostile {
  readonly path: string
  readonly answer: Answer
}

function parse(text: string): Hostile {
  const end = text.indexOf("\n\n")
  const [first = "", ...lines] = (end < 0 ? text : text.slice(0, end)).split("\n")
  const [path = "", status = ""] = first.split(" ")
  const headers = Object.fromEntries(lines.map((line) => {
    const colon = Math.max(line.indexOf(":"), 0)
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
  }))
  const body = new Uint8Array(Buffer.from(end < 0 ? "" : text.slice(end + 2), "latin1"))
  return { path, answer: { status: Number(status) || 200, headers, body } }
}

/** Each hostile answer once, then a good control plane with one dispatch. */
function scriptOf(hostile: Array<Hostile>): Script {
  const good = publishing(
    artifacts,
    (asked, nth) => asked.path === dispatchPath && nth % 2 === 1 ? ok(dispatched()) : idle(asked, nth)
  )
  return (asked: Asked, nth: number) => {
    const index = hostile.findIndex(({ path }) => path === asked.path)
    if (index < 0) return good(asked, nth)
    return hostile.splice(index, 1)[0]!.answer
  }
}

/** As many as the host gets over within the time that a case has. */
const mostHostile = 8
/** Longer than the longest `Retry-After` that is obeyed. */
const virtualMinutes = 25
/** Coarser than the tests of the workers: what matters here is what is done at all, not the second. */
const step = 15 * second
/** Polls, heartbeats, events and artifacts of a minute in which everything fails at once, with room. */
const mostRequestsPerMinute = 120

const workers = { longpoll, heartbeat, outbound, manifestPoll }

export const answer: Target = {
  name: "answers",
  weight: 5,
  source: answers,
  check: (input) => {
    const hostile = Buffer.from(input).toString("latin1").split(separator).filter((text) => text !== "")
      .slice(0, mostHostile).map(parse)
    const peer = new Peer(scriptOf(hostile))
    // Verifying is most of the cost of a case.
    const settings = { manifestPollSecs: 300 }
    return new Rig({ hostname: releaseHost, settings }).still(
      Effect.gen(function*() {
        const running: Array<readonly [string, Fiber.Fiber<unknown, unknown>]> = []
        for (const [name, worker] of Object.entries(workers)) running.push([name, yield* Effect.forkScoped(worker)])
        yield* settled
        for (let passed = 0; passed < virtualMinutes * minute; passed += step) {
          yield* TestClock.adjust(step)
          yield* settled
        }
        for (const [name, fiber] of running) {
          const exit = fiber.pollUnsafe()
          if (exit !== undefined) return yield* Effect.die(new Error(`${name} ended: ${JSON.stringify(exit)}`))
        }
        assert.isAtMost(peer.asked.length, virtualMinutes * mostRequestsPerMinute)
        assert.isTrue((yield* stateNow).rollouts.has(rolloutId), "the good dispatch was taken in the end")
      }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
    ).pipe(Effect.provide(Layer.mergeAll(TestConsole.layer, TestClock.layer())))
  }
}
