/**
 * Dispatches one after another, by the control plane's core as it is, over a database file in memory, so that no disk hides
 * what grows. (A database of SQLite's own `:memory:` commits slower the larger it is, which no file does.) The floor is the same at 1,000 hosts.
 *
 * The first row: one channel with all hosts, whose polls come one by one, each to be leased the dispatch that waits for it.
 * The second: all polls are parked, and a heartbeat ends the recovery of a channel of one host; in that commit its dispatch is
 * planned, queued, leased and given to that one poll. In both, exactly one poll is answered each time.
 */
import { Context, Effect, Exit, Fiber, Layer, Logger, Scope } from "effect"
import { layer as core } from "../../src/ControlPlane/Core.ts"
import { Inbox } from "../../src/ControlPlane/Inbox.ts"
import type { HeartbeatReceived, PollAnswer } from "../../src/ControlPlane/Input.ts"
import { Journal, journalMigrations } from "../../src/ControlPlane/Journal.ts"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import { Waiters } from "../../src/ControlPlane/Waiters.ts"
import { Database } from "../../src/Layers/Disk/Database.ts"
import { Ids } from "../../src/Layers/Ids.ts"
import { capable, type Release, unitOf } from "../../test/support/controlPlane.ts"
import { cpuMsOf } from "../support/cpu.ts"
import { inMemory } from "../support/directory.ts"
import { inTurns, type Row, rowOf } from "../support/figures.ts"
import { nameOf } from "../support/servers.ts"

const rounds = 7
const few = 1000
const many = 10_000
/** Dispatches that are timed, whatever the number of hosts. */
const measured = 1000
/** The same where all polls are parked. */
const measuredWakes = 500

const controlPlane = (directory: string) =>
  core.pipe(
    Layer.provide(
      Journal.layer({ ...defaultLimits, recoveryGraceMs: 3_600_000 }).pipe(
        Layer.provide(Database.layerFile(`${directory}/control-plane.db`, journalMigrations)),
        Layer.provide(Ids.layer)
      )
    ),
    Layer.provideMerge(Waiters.layer),
    // Its lines go nowhere: a terminal is no part of a dispatch.
    Layer.provide(Logger.layer([])),
    Layer.fresh
  )

const heartbeatOf = (host: string): HeartbeatReceived => ({
  _tag: "HeartbeatReceived",
  issuedAt: 0,
  heartbeat: { hostname: host, at: Date.now(), journal_id: `journal-of-${host}`, digests: [] },
  capabilities: capable
})

/** A core that knows the release, and how to park a poll there; `woken` counts polls that were answered. */
const start = Effect.fnUntraced(function*({ directory, scope }: Place, releases: ReadonlyArray<Release>) {
  const context = yield* Layer.buildWithScope(controlPlane(directory), scope)
  const inbox = Context.get(context, Inbox)
  const waiters = Context.get(context, Waiters)
  const signedAt = Date.now()
  yield* inbox.submit({
    _tag: "ArtifactsVerified",
    artifacts: unitOf(...releases.map((release) => ({ ...release, signedAt })))
  })
  const seen = { woken: 0 }
  const park = Effect.fnUntraced(function*(host: string) {
    const { answer, waiterId } = waiters.open()
    const until = Date.now() + 3_600_000
    const fiber = yield* Effect.forkDetach(
      Effect.tap(answer, () =>
        Effect.sync(() => {
          seen.woken++
        })),
      { startImmediately: true }
    )
    yield* inbox.submit({ _tag: "Parked", host, waiterId, capabilities: capable, issuedAt: signedAt, until })
    return fiber
  })
  /** A poll that has ended; the host is heard afterwards, and the last one that is ends the recovery of its channel (D6). */
  const greet = Effect.fnUntraced(function*(host: string) {
    const waiterId = 0
    const until = Date.now() + 3_600_000
    yield* inbox.submit({ _tag: "Parked", host, waiterId, capabilities: capable, issuedAt: signedAt, until })
    yield* inbox.submit({ _tag: "Unparked", host, waiterId })
    yield* inbox.heartbeat(heartbeatOf(host))
  })
  return { inbox, seen, park, greet }
})

/** Where one core lives: its scope, and the directory of its journal. */
interface Place {
  readonly scope: Scope.Scope
  readonly directory: string
}

const inPlace = <A, E>(body: (place: Place) => Effect.Effect<A, E>): Promise<A> =>
  inMemory((directory) =>
    Effect.runPromise(
      Effect.suspend(() => {
        const scope = Scope.makeUnsafe()
        return Effect.ensuring(body({ scope, directory }), Scope.close(scope, Exit.void))
      })
    )
  )

const cpuMsEach = <E>(count: number, work: Effect.Effect<void, E>): Effect.Effect<number> =>
  Effect.promise(async () => await cpuMsOf(() => Effect.runPromise(work)) / count)

const release = (channel: string, hosts: ReadonlyArray<string>): Release => ({ channel, ref: "a1", waves: [hosts] })

/** Milliseconds for each dispatch to one of `count` parked polls; throws when any other was woken. */
const wakeOneByOne = (count: number) =>
  inPlace(Effect.fnUntraced(function*(place) {
    const names = Array.from({ length: count }, (_, index) => nameOf(index))
    const { inbox, park, seen } = yield* start(place, names.map((name) => release(`channel-${name}`, [name])))
    const polls: Array<Fiber.Fiber<PollAnswer>> = []
    for (const name of names) polls.push(yield* park(name))
    if (seen.woken > 0) throw new Error(`${seen.woken} polls were answered before their hosts were heard`)
    return yield* cpuMsEach(
      measuredWakes,
      Effect.gen(function*() {
        for (const [index, name] of names.slice(0, measuredWakes).entries()) {
          yield* inbox.heartbeat(heartbeatOf(name))
          const answer = yield* Fiber.join(polls[index]!)
          if (answer._tag !== "Dispatch" || seen.woken !== index + 1) {
            throw new Error(`dispatch ${index + 1} to ${name} was ${answer._tag} and woke ${seen.woken - index}`)
          }
        }
      })
    )
  }))

/** Milliseconds for each poll that finds its dispatch, in one channel of `count` hosts. */
const pollOneByOne = (count: number) =>
  inPlace(Effect.fnUntraced(function*(place) {
    const names = Array.from({ length: count }, (_, index) => nameOf(index))
    const { greet, park, seen } = yield* start(place, [release("stable", names)])
    yield* Effect.forEach(names, greet, { concurrency: 512 })
    const asked = names.slice(0, measured)
    return yield* cpuMsEach(
      measured,
      Effect.gen(function*() {
        for (const [index, name] of asked.entries()) {
          const answer = yield* Fiber.join(yield* park(name))
          if (answer._tag !== "Dispatch" || seen.woken !== index + 1) {
            throw new Error(`the poll of ${name} was answered ${answer._tag}, and ${seen.woken - index - 1} others`)
          }
          // As its agent does while it switches.
          yield* park(name)
        }
      })
    )
  }))

export const dispatch = async (): Promise<ReadonlyArray<Row>> => {
  const goal = { at: "most", ratio: 1.2 } as const
  const wakes = { ours: () => wakeOneByOne(many), floor: () => wakeOneByOne(few) }
  const polls = { ours: () => pollOneByOne(many), floor: () => pollOneByOne(few) }
  // Both sides are the same code, and the first to run would pay for its compilation: once before the rounds.
  for (const { floor } of [polls, wakes]) for (let time = 0; time < 3; time++) await floor()
  return [
    rowOf(
      "dispatch one by one to one channel: at 10,000 hosts over at 1,000",
      goal,
      "ms",
      await inTurns(rounds, polls),
      [
        "each dispatch answered exactly one poll"
      ]
    ),
    rowOf(
      "wake one of all parked polls, a channel a host: at 10,000 over at 1,000",
      goal,
      "ms",
      await inTurns(rounds, wakes),
      [
        "each dispatch answered exactly one poll"
      ]
    )
  ]
}
