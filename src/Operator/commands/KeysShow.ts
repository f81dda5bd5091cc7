/** `nixfleet keys show`: what the trust file of hosts and control plane has to say about a key. */
import { Console, Effect, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { KeySlot, TrustRoots } from "../../Schema/Trust.ts"
import { slotOf } from "../KeyFiles.ts"
import { readPublicKey } from "../Keys.ts"

const input = {
  file: Argument.String("file").pipe(Argument.withDescription("Private or public key file of `keys new`")),
  trust: Flag.Boolean("trust").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Print a whole trust.json that believes this key alone, instead of its slot")
  )
}

const encodeSlot = Schema.encodeSync(KeySlot)
const encodeTrustRoots = Schema.encodeSync(TrustRoots)

export const keysShow = Command.make(
  "show",
  input,
  Effect.fnUntraced(function*({ file, trust }) {
    const slot = slotOf(yield* readPublicKey(file))
    const shown = trust
      ? encodeTrustRoots({
        schemaVersion: 1,
        ciReleaseKey: slot,
        cacheKeys: [],
        orgRootKey: null,
        rootCaPem: null,
        issuanceCaPems: []
      })
      : encodeSlot(slot)
    yield* Console.log(JSON.stringify(shown, undefined, 2))
  })
).pipe(Command.withDescription("Print a public key as a slot of trust.json"))
