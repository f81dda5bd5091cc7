/**
 * A process that starts a switch and then waits to be killed: `node startSwitch.ts <config JSON> <closure> <id JSON>`.
 * Prints the outcome as one line when the switch has begun.
 */
import { Effect } from "effect"
import { Activator } from "../../src/Layers/Host/Activator.ts"
import * as ArchiveActivator from "../../src/Layers/Host/ArchiveActivator.ts"
import { launchInSession } from "../../src/Layers/Host/SwitchLaunch.ts"

const [config, closure, id] = process.argv.slice(2)
const program = Effect.gen(function*() {
  const activator = yield* Activator
  const started = yield* activator.startSwitch(closure!, JSON.parse(id!))
  process.stdout.write(`${started._tag}\n`)
  yield* Effect.never
})
Effect.runFork(Effect.provide(program, ArchiveActivator.layer({ ...JSON.parse(config!), launch: launchInSession })))
