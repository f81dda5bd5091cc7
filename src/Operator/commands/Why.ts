/** `nixfleet why`: what keeps one host from its target now, by the rules that decide. */
import { Console, DateTime, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { Explanation } from "../../Schema/OperatorViews.ts"
import { isHostname } from "../../Schema/Primitives.ts"
import { connect, connectionFlags, malformed, requestView } from "../Connection.ts"
import { failed, usageError } from "../Failure.ts"
import { outputFlags, printJson } from "../Output.ts"
import { renderExplanation } from "../WhyText.ts"

export const why = Command.make(
  "why",
  {
    host: Argument.String("host").pipe(Argument.withDescription("A host, as `status` shows it")),
    json: outputFlags.json,
    ...connectionFlags
  },
  Effect.fnUntraced(function*({ host, json, ...flags }) {
    // Refused before anything is sent: it becomes part of a path.
    if (!isHostname(host)) return yield* usageError(`${JSON.stringify(host)} is not a host name`)
    const found = yield* readExplanation(host).pipe(Effect.provide(connect(flags)))
    if (json) return yield* printJson(found.json)
    yield* Console.log(renderExplanation(found.view, DateTime.zoneMakeLocal()))
  })
).pipe(
  Command.withDescription(
    "Say why a host is where it is: the one thing that holds it, or what it waits for, with the evidence, who can end it and when"
  )
)

const readExplanation = Effect.fnUntraced(
  function*(host: string) {
    const path = `/v1/hosts/${host}/why`
    const found = yield* requestView(path, Explanation)
    return found.view.hostname === host ? found : yield* malformed(path, "the answer is about another host")
  },
  (reading, host) =>
    Effect.mapError(
      reading,
      ({ kind, message }) => failed(kind === "absent" ? `the control plane knows no host ${host}` : message)
    )
)
