/** `nixfleet keys show`: what the trust file of hosts and control plane has to say about a key. */
import { Console, Effect, Option, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { KeySlot } from "../../Schema/Trust.ts"
import { slotOf } from "../KeyFiles.ts"
import { readPublicKey } from "../Keys.ts"
import { trustRootsWith, trustText } from "../TrustFiles.ts"

const input = {
  file: Argument.String("file").pipe(Argument.withDescription("Private or public key file of `keys new`")),
  trust: Flag.Boolean("trust").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Print a whole trust.json that believes this key alone, instead of its slot")
  ),
  orgRoot: Flag.String("org-root").pipe(
    Flag.withMetavar("FILE"),
    Flag.optional,
    Flag.withDescription("With --trust: the key that signs bootstrap tokens")
  )
}

const encodeSlot = Schema.encodeSync(KeySlot)

export const keysShow = Command.make(
  "show",
  input,
  Effect.fnUntraced(function*({ file, orgRoot, trust }) {
    const slot = slotOf(yield* readPublicKey(file))
    const root = Option.isNone(orgRoot) ? null : slotOf(yield* readPublicKey(orgRoot.value))
    yield* Console.log(
      trust ? trustText(trustRootsWith(slot, root)) : JSON.stringify(encodeSlot(slot), undefined, 2)
    )
  })
).pipe(Command.withDescription("Print a public key as a slot of trust.json"))
