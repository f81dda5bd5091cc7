/** `nixfleet trust show`: which keys a trust file believes now and until when, and what is wrong with it. */
import { Clock, Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { formatTimestamp, type Millis } from "../../Schema/Primitives.ts"
import type { KeySlot } from "../../Schema/Trust.ts"
import { isRotationDue, keyProblems } from "../../Trust/Keys.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { readTrustFile, type SlotName, slotNames } from "../TrustFiles.ts"

const input = {
  file: Argument.String("file").pipe(Argument.withDescription("trust.json")),
  ...outputFlags
}

/** What a key may do at `now`. */
function standing(slot: KeySlot, place: "current" | "previous" | "successor", now: Millis): string {
  if (place !== "successor") return "believed"
  if (slot.retireAt === null) return "not believed: no retireAt"
  return now < slot.retireAt
    ? `believed until ${formatTimestamp(slot.retireAt)}`
    : `not believed since ${formatTimestamp(slot.retireAt)}: finish the rotation`
}

const keysOf = (name: SlotName, slot: KeySlot, now: Millis) =>
  (["current", "previous", "successor"] as const).flatMap((place) => {
    const key = slot[place]
    return key === null ? [] : [{ slot: name, place, ...key, standing: standing(slot, place, now) }]
  })

const notes = (name: SlotName, slot: KeySlot, now: Millis): ReadonlyArray<string> => [
  ...(slot.rejectBefore === null
    ? []
    : [`${name}: nothing signed before ${formatTimestamp(slot.rejectBefore)} is believed`]),
  ...(isRotationDue(slot, now)
    ? [`${name}: the time of the successor has come; run: nixfleet trust rotate --promote`]
    : []),
  ...keyProblems(slot).map((problem) => `${name}.${problem}`)
]

export const trustShow = Command.make(
  "show",
  input,
  Effect.fnUntraced(function*({ file, json, noColor }) {
    const roots = yield* readTrustFile(file)
    const now = Math.floor(yield* Clock.currentTimeMillis)
    const slots = slotNames.flatMap((name) => {
      const slot = roots[name]
      return slot === null ? [] : [{ name, slot }]
    })
    const keys = slots.flatMap(({ name, slot }) => keysOf(name, slot, now))
    const said = slots.flatMap(({ name, slot }) => notes(name, slot, now))
    if (json) return yield* printJson({ keys, notes: said })
    yield* printTable(
      ["SLOT", "PLACE", "ALGORITHM", "PUBLIC KEY", "STANDING"],
      keys.map((key) => [key.slot, key.place, key.algorithm, key.public, key.standing].map((text) => ({ text }))),
      noColor
    )
    for (const line of said) yield* Console.log(line)
  })
).pipe(Command.withDescription("Show which keys a trust file believes, and until when"))
