/** `nixfleet derive-pubkey`: a host's key as a fleet declares it (`hosts.<name>.pubkey`). */
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { configError } from "../Failure.ts"
import { readInput } from "../Files.ts"
import { rawHostKey } from "../HostKeys.ts"

const input = {
  file: Argument.String("file").pipe(
    Argument.withDescription(
      "ed25519 key: OpenSSH or PEM, public or private; for instance /etc/ssh/ssh_host_ed25519_key.pub"
    )
  )
}

export const derivePubkey = Command.make(
  "derive-pubkey",
  input,
  Effect.fnUntraced(function*({ file }) {
    const raw = rawHostKey(yield* readInput(file, "key"))
    if (!raw.ok) return yield* configError(`${file}: ${raw.problem}`)
    yield* Console.log(Buffer.from(raw.value).toString("base64"))
  })
).pipe(Command.withDescription("Print the public key of a host in base64, as a fleet declares it"))
