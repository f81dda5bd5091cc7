/** The `nixfleet` command: runs the tree of `Root.ts` and turns its end into an exit code (`Failure.ts`). */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Effect, Exit, type Runtime } from "effect"
import { Command } from "effect/cli"
import { exitCodeOf } from "../Layers/CommandLine.ts"
import { version } from "../Schema/Version.ts"
import { root } from "./Root.ts"

/** What a shell expects of a command that was interrupted; a service that is told to stop ends with 0 instead. */
const exitInterrupted = 130

const teardown: Runtime.Teardown = (exit, onExit) =>
  onExit(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? exitInterrupted : exitCodeOf(exit))

root.pipe(
  Command.run({ version }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
