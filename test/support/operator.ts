// Runs the `nixfleet` command in this process: real files, captured output, an environment of its own.
import { NodeServices } from "@effect/platform-node"
import { Console, Effect, Exit, Layer, Sink, Stdio, Stream } from "effect"
import { Command } from "effect/cli"
import { TestConsole } from "effect/testing"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { exitCodeOf } from "../../src/Layers/CommandLine.ts"
import { Environment } from "../../src/Operator/Environment.ts"
import { root } from "../../src/Operator/Root.ts"

export interface Outcome {
  readonly code: number
  readonly out: string
  readonly err: string
  /** What went to standard output as bytes, past the console. */
  readonly bytes: Buffer
}

export interface RunOptions {
  readonly stdin?: Uint8Array
  readonly environment?: Readonly<Record<string, string>>
}

/** Runs one command line to its end. */
export const nixfleet = (args: ReadonlyArray<string>, options: RunOptions = {}): Effect.Effect<Outcome> =>
  Effect.gen(function*() {
    const chunks: Array<Buffer> = []
    const stdio = Stdio.layerTest({
      stdin: options.stdin === undefined ? Stream.empty : Stream.make(options.stdin),
      stdout: () => Sink.forEach((chunk) => Effect.sync(() => chunks.push(Buffer.from(chunk)))),
      stdoutIsTerminal: Effect.succeed(false)
    })
    const exit = yield* Command.runWith(root, { version: "9.9.9" })(args).pipe(
      Effect.provideService(Environment, options.environment ?? {}),
      Effect.provide(Layer.provideMerge(stdio, NodeServices.layer)),
      Effect.exit
    )
    if (Exit.isFailure(exit) && exitCodeOf(exit) === 1) yield* Console.error(String(exit.cause))
    const [out, err] = [yield* TestConsole.logLines, yield* TestConsole.errorLines]
    return { code: exitCodeOf(exit), out: out.join("\n"), err: err.join("\n"), bytes: Buffer.concat(chunks) }
  }).pipe(Effect.provide(Layer.fresh(TestConsole.layer)))

/** A directory for the rest of the scope. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "nixfleet-operator-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)
