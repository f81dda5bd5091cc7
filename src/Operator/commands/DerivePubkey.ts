/** `nixfleet derive-pubkey`: an ed25519 key of any form as trust files write it. A fleet declares hosts by their OpenSSH line. */
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
).pipe(Command.withDescription("Print an ed25519 public key in base64, as trust files write keys"))
