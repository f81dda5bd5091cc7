/** The `nixfleet` command: runs the tree of `Root.ts` and turns its end into an exit code (`Failure.ts`). */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Effect, Exit, type Runtime } from "effect"
import { Command } from "effect/cli"
import { endWhenNobodyReads } from "../Layers/ClosedPipe.ts"
import { exitCodeOf } from "../Layers/CommandLine.ts"
import { version } from "../Schema/Version.ts"
import { Interruption } from "./Failure.ts"
import { root } from "./Root.ts"

/** As `Interruption` says; a service that is told to stop ends with 0 instead. */
const interruption = { exitCode: 130 }

const teardown: Runtime.Teardown = (exit, onExit) =>
  onExit(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? interruption.exitCode : exitCodeOf(exit))

endWhenNobodyReads()

root.pipe(
  Command.run({ version }),
  Effect.provideService(Interruption, interruption),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
