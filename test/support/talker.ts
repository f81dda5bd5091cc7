/**
 * A program that does nothing but log: `talker.ts <format> <lines>`. Says `logged` on standard error when its lines are
 * written, and logs one more, `after`, for each line that it reads on standard input; ends with that.
 */
import { Effect } from "effect"
import { createInterface } from "node:readline"
import { layer, logOf } from "../../src/Layers/Logging.ts"

const [format = "json", lines = "1"] = process.argv.slice(2)
const log = logOf("agent_probe")

const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const asked = Effect.promise(() => input.next())
const say = (text: string) => Effect.sync(() => process.stderr.write(`${text}\n`))

Effect.forEach(Array.from({ length: Number(lines) }).keys(), (at) => log.info("a sample", { seq: at }), {
  discard: true
})
  .pipe(
    Effect.andThen(say("logged")),
    Effect.andThen(
      Effect.whileLoop({
        while: () => true,
        body: () => Effect.flatMap(asked, ({ done }) => done === true ? Effect.interrupt : log.info("after")),
        step: () => undefined
      })
    ),
    Effect.provide(layer({ format: format === "pretty" ? "pretty" : "json", level: "info", noColour: undefined })),
    Effect.runFork
  )
