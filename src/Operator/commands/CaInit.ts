/** `nixfleet ca init`: the authority of a fleet, whose certificates hosts, operators and the control plane hold. */
import { Clock, Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import { newKeyPair, privateKeyPem } from "../../Layers/KeyPairs.ts"
import { certificateOf, signWith, toBeSigned } from "../../Layers/Net/Certificates.ts"
import {
  backdatedMs,
  checkSpan,
  dayMs,
  daysFlag,
  outputCertificateFlags,
  pairFiles,
  publishPair
} from "../Authority.ts"
import { spare } from "../Files.ts"
import { jsonFlag, printJson } from "../Output.ts"

const flags = {
  ...outputCertificateFlags,
  name: Flag.String("name").pipe(
    Flag.withDefault("nixfleet CA"),
    Flag.withDescription("Common name of the authority (default: nixfleet CA)")
  ),
  days: daysFlag(3650),
  json: jsonFlag
}

const algorithm = "ecdsa-p256"

export const caInit = Command.make(
  "init",
  flags,
  Effect.fnUntraced(function*({ days, force, json, name, out }) {
    const spanMs = yield* checkSpan("days", days, dayMs)
    const files = pairFiles(out)
    yield* spare([files.cert, files.key], force)
    const { privateKey, publicKey } = newKeyPair("p256")
    const now = Math.floor(yield* Clock.currentTimeMillis)
    const bytes = toBeSigned({
      subject: { commonName: name },
      publicKey,
      notBefore: now - backdatedMs,
      notAfter: now + spanMs,
      usage: "authority",
      names: []
    }, { certificate: undefined, algorithm })
    yield* publishPair(out, certificateOf(bytes, algorithm, signWith(privateKey, bytes)), privateKeyPem(privateKey))
    if (json) return yield* printJson({ certificate: files.cert, privateKey: files.key })
    yield* Console.log(`wrote ${files.cert}, and ${files.key} for its owner only: whoever has it is every host`)
  })
).pipe(Command.withDescription("Make a certificate authority for a fleet"))
