/** The agent's program: runs the command line of `Agent/CommandTree.ts` and turns its end into an exit code (D18). */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect } from "effect"
import { Command } from "effect/cli"
import { command } from "./Agent/CommandTree.ts"
import { teardown } from "./Layers/CommandLine.ts"
import { version } from "./Schema/Version.ts"

command.pipe(
  Command.run({ version }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
