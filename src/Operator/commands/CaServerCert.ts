/** `nixfleet ca server-cert`: what the control plane shows to agents and operators. */
import { Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import { authorityFlags, daysFlag, mintPair, outputCertificateFlags } from "../Authority.ts"
import { usageError } from "../Failure.ts"
import { jsonFlag, printJson } from "../Output.ts"

const flags = {
  ...authorityFlags,
  ...outputCertificateFlags,
  name: Flag.String("name").pipe(
    Flag.withMetavar("HOST"),
    Flag.atLeast(1),
    Flag.withDescription("Host name or address under which the control plane is reached; may be given several times")
  ),
  days: daysFlag(365),
  json: jsonFlag
}

export const caServerCert = Command.make(
  "server-cert",
  flags,
  Effect.fnUntraced(function*({ json, name, ...given }) {
    const [first] = name
    if (first === undefined) return yield* usageError("give --name")
    const files = yield* mintPair(given, { subject: { commonName: first }, usage: "server", names: name })
    if (json) return yield* printJson({ certificate: files.cert, privateKey: files.key })
    yield* Console.log(`wrote ${files.cert} and ${files.key}`)
  })
).pipe(Command.withDescription("Make the control plane's server certificate"))
