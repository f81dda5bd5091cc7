/** What the commands print: JSON for programs, text or a table for people. */
import { Console, Effect, Stdio } from "effect"
import { Flag } from "effect/cli"
import { Environment } from "./Environment.ts"
import { type Cell, renderTable } from "./Table.ts"

/** For commands that tell what they did. */
export const jsonFlag = Flag.Boolean("json").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Print what was done as JSON")
)

/** For commands that show views. */
export const outputFlags = {
  json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print JSON instead of a table")),
  noColor: Flag.Boolean("no-color").pipe(
    Flag.withDefault(false),
    Flag.withDescription("No colours; also without a terminal, and with NO_COLOR")
  )
}

/** JSON escapes most control characters itself; the rest would be obeyed by a terminal, and means the same when escaped. */
export const safeJson = (value: unknown, indent?: number): string =>
  JSON.stringify(value, undefined, indent).replaceAll(
    /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

export const printJson = (value: unknown) => Console.log(safeJson(value, 2))

export const printTable = Effect.fnUntraced(function*(
  header: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<Cell>>,
  noColor: boolean
) {
  const wanted = (yield* Environment)["NO_COLOR"] ?? ""
  const isTerminal = yield* (yield* Stdio.Stdio).stdoutIsTerminal
  yield* Console.log(renderTable(header, rows, isTerminal && !noColor && wanted === ""))
})
