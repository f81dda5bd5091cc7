/** `nixfleet rollout events`: what happened in a rollout, page by page, as it happens, or into a file. */
import { Console, Effect, Option, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import type { Exchange } from "../../Layers/Net/Exchange.ts"
import { eventsPageLimit, RolloutEvents } from "../../Schema/OperatorViews.ts"
import { connect, connectionFlags, malformed, type NoView, requestView } from "../Connection.ts"
import { eventHeader, eventJson, eventLine, type EventRow } from "../EventLines.ts"
import { type CommandFailure, failed, Interruption, NotConverged, usageError } from "../Failure.ts"
import { writeNew } from "../Files.ts"
import { checkRolloutId, rolloutArgument } from "../RolloutArgument.ts"
import { lookUntilOver, readStanding } from "../RolloutState.ts"

/** How far the log was read. `logId` tells one log from its successor; absent in a control plane of the original. */
interface Cursor {
  readonly afterSeq: number
  readonly logId: string | undefined
}

const fromTheStart: Cursor = { afterSeq: 0, logId: undefined }

/** The rows as they came, with what a newer control plane says in them. */
const decodeRaw = Schema.decodeUnknownSync(Schema.Struct({ events: Schema.Array(Schema.Unknown) }))

/** One page after the cursor. An answer that goes back, repeats or is about something else is refused: it would never end. */
const readPage = Effect.fnUntraced(function*(rolloutId: string, { afterSeq, logId }: Cursor) {
  const path = `/v1/rollouts/${rolloutId}/events?limit=${eventsPageLimit}&after_seq=${afterSeq}`
  const { json, view } = yield* requestView(path, RolloutEvents)
  if (view.rollout_id !== rolloutId) return yield* malformed(path, "the answer is about another rollout")
  const isOther = logId !== undefined && view.log_id !== logId
  let last = afterSeq
  for (const { seq } of view.events) {
    if (!isOther && seq <= last) return yield* malformed(path, `event ${seq} comes after event ${last}`)
    last = seq
  }
  const raw = decodeRaw(json).events
  return {
    rows: view.events.map((event, index) => ({ event, raw: raw[index] })),
    isOther,
    next: { afterSeq: last, logId: view.log_id } satisfies Cursor
  }
})

type Emit<E> = (event: EventRow, raw: unknown) => Effect.Effect<void, E>

/** Gives every event after the cursor to `emit`, in order, each once; ends at an empty page, or where the log was replaced. */
const drain = Effect.fnUntraced(function*<E>(
  rolloutId: string,
  cursor: { current: Cursor },
  emit: Emit<E>
): Effect.fn.Return<"drained" | "replaced", NoView | E, Exchange> {
  while (true) {
    const { isOther, next, rows } = yield* readPage(rolloutId, cursor.current)
    if (isOther) {
      cursor.current = { ...next, afterSeq: 0 }
      return "replaced"
    }
    if (rows.length === 0) return "drained"
    for (const { event, raw } of rows) {
      yield* emit(event, raw)
      cursor.current = { ...next, afterSeq: event.seq }
    }
  }
})

/** All there is now. A rollout that nobody knows is an error and not an empty log. */
const all = Effect.fnUntraced(function*(rolloutId: string, emit: Emit<CommandFailure>) {
  yield* readStanding(rolloutId)
  const end = yield* drain(rolloutId, { current: fromTheStart }, emit)
  if (end === "replaced") return yield* failed(`the log of ${rolloutId} was replaced while it was read`)
}, Effect.catchTag("NoView", ({ message }) => Effect.fail(failed(message))))

/** As it happens, to the end of the rollout: how it stands is asked first, so that nothing before that end is missed. */
const follow = Effect.fnUntraced(function*(rolloutId: string, emit: Emit<never>) {
  const interruption = yield* Interruption
  interruption.exitCode = 0
  const cursor = { current: fromTheStart }
  const { how, text } = yield* lookUntilOver({
    ask: readStanding(rolloutId),
    afterwards: Effect.fnUntraced(function*(standing) {
      if ((yield* drain(rolloutId, cursor, emit)) === "drained") return standing
      yield* Console.error("the control plane has another log than before; its events follow from the first")
      return { ...standing, how: "under-way" }
    })
  })
  yield* Console.error(text)
  if (how !== "converged") return yield* new NotConverged({ how })
})

export const rolloutEvents = Command.make(
  "events",
  {
    rollout: rolloutArgument,
    follow: Flag.Boolean("follow").pipe(
      Flag.withDefault(false),
      Flag.withDescription(
        "Go on until the rollout is over, also while the control plane restarts. Exit 0: it has converged, or Ctrl-C. " +
          "3: it failed, was rolled back or was superseded"
      )
    ),
    export: Flag.String("export").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription("Write all events of now as JSON lines into a new file of mode 0600; - for standard output"),
      Flag.optional
    ),
    force: Flag.Boolean("force").pipe(Flag.withDefault(false), Flag.withDescription("Replace the file of --export")),
    json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print JSON lines")),
    ...connectionFlags
  },
  Effect.fnUntraced(function*(given) {
    const rolloutId = yield* checkRolloutId(given.rollout)
    const file = Option.getOrUndefined(given.export)
    if (file !== undefined && given.follow) {
      return yield* usageError("--export writes what there is now; to keep what is followed, redirect --follow --json")
    }
    if (file === undefined && given.force) return yield* usageError("--force is for the file of --export")
    const session = Effect.gen(function*() {
      if (file !== undefined && file !== "-") {
        const count = yield* writeNew(file, given.force, (append) => {
          let events = 0
          return all(rolloutId, (_, raw) => {
            events += 1
            return append(`${eventJson(raw)}\n`)
          }).pipe(Effect.map(() => events))
        })
        return yield* Console.error(`wrote ${count} events into ${file}`)
      }
      const asJson = given.json || file === "-"
      if (!asJson) yield* Console.log(eventHeader)
      const print: Emit<never> = (event, raw) => Console.log(asJson ? eventJson(raw) : eventLine(event))
      return yield* given.follow ? follow(rolloutId, print) : all(rolloutId, print)
    })
    yield* Effect.provide(session, connect(given))
  })
).pipe(Command.withDescription("Show the events of a rollout, oldest first"))
