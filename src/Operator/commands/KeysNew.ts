/** `nixfleet keys new`: an ed25519 key pair from the operating system's randomness. */
import { Console, Effect } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { SecureRandom } from "effect/crypto"
import { publish, spare } from "../Files.ts"
import { encodePrivateKey, encodePublicKey, seedLength } from "../KeyFiles.ts"
import { jsonFlag, printJson } from "../Output.ts"

const input = {
  file: Argument.String("file").pipe(
    Argument.withDescription("Private key file to write, readable by its owner only; the public key goes to <file>.pub")
  ),
  force: Flag.Boolean("force").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Replace an existing pair: what it signed can then not be signed again")
  ),
  json: jsonFlag
}

export const keysNew = Command.make(
  "new",
  input,
  Effect.fnUntraced(function*({ file, force, json }) {
    const publicFile = `${file}.pub`
    yield* spare([file, publicFile], force)
    const { randomBytes } = yield* SecureRandom.SecureRandom
    const seed = yield* randomBytes(seedLength)
    yield* publish([
      { path: file, bytes: encodePrivateKey(seed), mode: 0o600 },
      { path: publicFile, bytes: encodePublicKey(seed) }
    ])
    if (json) return yield* printJson({ privateKey: file, publicKey: publicFile })
    yield* Console.log(`wrote ${file} and ${publicFile}`)
  }, Effect.provide(SecureRandom.layerWebCrypto))
).pipe(Command.withDescription("Make an ed25519 key pair"))
