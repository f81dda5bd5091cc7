/** `nixfleet operator mint-cert`: the client certificate of a person or a pipeline that may read the whole fleet (D16). */
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { operatorUnit } from "../../Schema/Identity.ts"
import { authorityFlags, daysFlag, mintPair, outputCertificateFlags } from "../Authority.ts"
import { Environment } from "../Environment.ts"
import { usageError } from "../Failure.ts"
import { jsonFlag, printJson } from "../Output.ts"

const flags = {
  ...authorityFlags,
  ...outputCertificateFlags,
  cn: Flag.String("cn").pipe(
    Flag.withMetavar("NAME"),
    Flag.optional,
    Flag.withDescription("Common name, shown wherever it says who did something (default: operator-$USER)")
  ),
  days: daysFlag(365),
  json: jsonFlag
}

export const operatorMintCert = Command.make(
  "mint-cert",
  flags,
  Effect.fnUntraced(function*({ cn, json, ...given }) {
    const user = (yield* Environment)["USER"]
    const commonName = Option.getOrElse(cn, () => user === undefined ? "" : `operator-${user}`)
    if (commonName === "") return yield* usageError("give --cn: the environment has no USER")
    const subject = { commonName, organizationalUnit: operatorUnit }
    const files = yield* mintPair(given, { subject, usage: "client", names: [] })
    if (json) return yield* printJson({ commonName, certificate: files.cert, privateKey: files.key })
    yield* Console.log(`wrote ${files.cert} and ${files.key} for ${commonName}`)
  })
).pipe(Command.withDescription("Make an operator's client certificate"))
