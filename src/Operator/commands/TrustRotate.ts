/**
 * `nixfleet trust rotate`: one step of replacing a signing key, so that at no time a host believes only a key that nobody signs
 * with (protocol.md §8.7): announce the successor; when every trust file has it, sign with it and promote it; when nothing
 * signed with the old key is in use any more, finish.
 */
import { Clock, Console, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { formatTimestamp, type Millis, parseTimestamp } from "../../Schema/Primitives.ts"
import type { KeySlot } from "../../Schema/Trust.ts"
import { checkSpan, dayMs } from "../Authority.ts"
import { failed, usageError } from "../Failure.ts"
import { readTrustedKey } from "../Signing.ts"
import { readTrustFile, slotNames, writeTrustFile } from "../TrustFiles.ts"

const input = {
  file: Argument.String("file").pipe(Argument.withDescription("trust.json, changed in place")),
  slot: Flag.Literals("slot", slotNames).pipe(
    Flag.withDefault("ciReleaseKey"),
    Flag.withDescription("Which role's key (default: ciReleaseKey)")
  ),
  announce: Flag.String("announce").pipe(
    Flag.withMetavar("FILE"),
    Flag.optional,
    Flag.withDescription("First step: the new public key; it is believed beside the current one")
  ),
  days: Flag.Int("days").pipe(
    Flag.withDefault(30),
    Flag.withDescription("With --announce: days until which the successor has to be promoted (default: 30)")
  ),
  promote: Flag.Boolean("promote").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Second step: the successor becomes the current key, the current one the previous")
  ),
  finish: Flag.Boolean("finish").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Last step: the previous key is not believed any more")
  ),
  rejectBefore: Flag.String("reject-before").pipe(
    Flag.withMetavar("TIME"),
    Flag.optional,
    Flag.withDescription(
      "With --finish, after a key was stolen: nothing signed before this time (RFC 3339) is believed"
    )
  )
}

type Step = { readonly slot: KeySlot; readonly done: string }

function promoted(slot: KeySlot): Step | string {
  if (slot.successor === null) return "there is no successor: announce one first"
  return {
    slot: { ...slot, current: slot.successor, previous: slot.current, successor: null, retireAt: null },
    done: "the successor is the current key now; the old one is still believed, until --finish"
  }
}

function finished(slot: KeySlot, rejectBefore: Millis | null): Step | string {
  if (slot.previous === null && rejectBefore === null) return "there is no previous key to forget"
  return {
    slot: { ...slot, previous: null, rejectBefore: rejectBefore ?? slot.rejectBefore },
    done: "the previous key is not believed any more"
  }
}

export const trustRotate = Command.make(
  "rotate",
  input,
  Effect.fnUntraced(function*({ announce, days, file, finish, promote, rejectBefore, slot: name }) {
    if ([Option.isSome(announce), promote, finish].filter(Boolean).length !== 1) {
      return yield* usageError("give one of --announce FILE, --promote and --finish")
    }
    const from = Option.isNone(rejectBefore) ? null : parseTimestamp(rejectBefore.value)
    if (from === undefined || from !== null && !finish) {
      return yield* usageError("--reject-before: an RFC 3339 time, together with --finish")
    }
    const roots = yield* readTrustFile(file)
    const slot = roots[name]
    if (slot === null) return yield* failed(`${file} has no ${name}`)
    const announced = Effect.gen(function*() {
      if (Option.isNone(announce)) return undefined
      const spanMs = yield* checkSpan("days", days, dayMs)
      if (slot.successor !== null) return yield* failed("a successor is announced already: promote it first")
      const retireAt = Math.floor(yield* Clock.currentTimeMillis) + spanMs
      return {
        slot: { ...slot, successor: yield* readTrustedKey(announce.value), retireAt },
        done: `the successor is believed beside the current key; promote it before ${formatTimestamp(retireAt)}`
      }
    })
    const step: Step | string = (yield* announced) ?? (promote ? promoted(slot) : finished(slot, from))
    if (typeof step === "string") return yield* failed(`${file}, ${name}: ${step}`)
    yield* writeTrustFile(file, { ...roots, [name]: step.slot })
    yield* Console.log(`${file}, ${name}: ${step.done}`)
  })
).pipe(Command.withDescription("Replace a signing key, step by step"))
