/** `nixfleet canonicalize`: standard input to its RFC 8785 form, byte for byte what a signature covers. */
import { Effect, Stdio, Stream } from "effect"
import { Command } from "effect/cli"
import { canonicalBytes } from "../../Trust/CanonicalJson.ts"
import { failed } from "../Failure.ts"
import { maxInputBytes } from "../Files.ts"

/** All of standard input, up to the limit of every input. */
const readAll = Effect.fnUntraced(function*() {
  const stdio = yield* Stdio.Stdio
  const chunks: Array<Uint8Array> = []
  let size = 0
  yield* stdio.stdin.pipe(
    Stream.mapError((error) => failed(`cannot read standard input: ${error.message}`)),
    Stream.runForEach((chunk) => {
      size += chunk.length
      chunks.push(chunk)
      return size > maxInputBytes
        ? Effect.fail(failed(`standard input is larger than ${maxInputBytes} bytes`))
        : Effect.void
    })
  )
  return Buffer.concat(chunks)
})

export const canonicalize = Command.make(
  "canonicalize",
  {},
  Effect.fnUntraced(function*() {
    const result = canonicalBytes(yield* readAll())
    if (!result.ok) return yield* failed(`${result.problem.name}: ${result.problem.detail}`)
    const stdio = yield* Stdio.Stdio
    yield* Stream.make(result.bytes).pipe(
      Stream.run(stdio.stdout()),
      Effect.mapError((error) => failed(`cannot write standard output: ${error.message}`))
    )
  })
).pipe(Command.withDescription("Read JSON from standard input, write its canonical form (RFC 8785)"))
