/**
 * With what an operator signs: a private key file, or a command that signs with a key nobody can read (TPM, HSM). Whoever
 * signs by a command names the public key too: what was signed is verified before it gets out.
 */
import { Effect, Option } from "effect"
import { Flag } from "effect/cli"
import { signByCommand } from "../Layers/SignCommand.ts"
import type { TrustedKey } from "../Schema/Trust.ts"
import { parseKey, publicKeyOfSeed, signEd25519, verifies } from "../Trust/Signature.ts"
import { type CommandFailure, configError, failed, usageError } from "./Failure.ts"
import { readInput } from "./Files.ts"
import { readPrivateKey, readPublicKey } from "./Keys.ts"

export const signingFlags = {
  key: Flag.String("key").pipe(
    Flag.withAlias("k"),
    Flag.withMetavar("FILE"),
    Flag.optional,
    Flag.withDescription("Private key file of `keys new`")
  ),
  signCommand: Flag.String("sign-command").pipe(
    Flag.withMetavar("COMMAND"),
    Flag.optional,
    Flag.withDescription(
      "Instead of --key: a command for /bin/sh that signs the file $NIXFLEET_INPUT and writes the raw signature to $NIXFLEET_OUTPUT"
    )
  ),
  publicKey: Flag.String("public-key").pipe(
    Flag.withMetavar("FILE"),
    Flag.optional,
    Flag.withDescription(
      "With --sign-command: the public key that it signs with, base64 (ed25519, or P-256 as X and Y)"
    )
  )
}

export interface SigningFlags {
  readonly key: Option.Option<string>
  readonly signCommand: Option.Option<string>
  readonly publicKey: Option.Option<string>
}

/** Signs, and says with which key. */
export interface Signing {
  readonly key: TrustedKey
  readonly sign: (bytes: Uint8Array) => Effect.Effect<Uint8Array, CommandFailure>
}

/** The signature of a seed. */
export const signingWith = (seed: Uint8Array): Signing => ({
  key: { algorithm: "ed25519", public: Buffer.from(publicKeyOfSeed(seed)).toString("base64") },
  sign: (bytes) => Effect.sync(() => signEd25519(seed, bytes))
})

/** A public key of either algorithm, as one line of base64 or, for ed25519, any file that `keys show` reads. */
export const readTrustedKey = Effect.fnUntraced(function*(path: string) {
  const text = Buffer.from(yield* readInput(path, "public key")).toString("latin1").trim()
  if (Buffer.from(text, "base64").length !== 64) return { algorithm: "ed25519", public: yield* readPublicKey(path) }
  const key: TrustedKey = { algorithm: "ecdsa-p256", public: text }
  return parseKey(key)._tag === "EcdsaP256" ? key : yield* configError(`public key ${path}: not a point of P-256`)
})

const signingBy = (command: string, key: TrustedKey): Signing => {
  const verifyKey = parseKey(key)
  return {
    key,
    sign: (bytes) =>
      signByCommand(command, bytes).pipe(
        Effect.mapError((error) => failed(error.message)),
        Effect.filterOrFail(
          (signature) => verifies(verifyKey, bytes, signature),
          () => failed("the sign command signed with another key than --public-key")
        )
      )
  }
}

/** What the flags say. */
export const signing = Effect.fnUntraced(function*({ key, publicKey, signCommand }: SigningFlags) {
  if (Option.isSome(key) && Option.isNone(signCommand) && Option.isNone(publicKey)) {
    return signingWith(yield* readPrivateKey(key.value))
  }
  if (Option.isSome(signCommand) && Option.isSome(publicKey) && Option.isNone(key)) {
    return signingBy(signCommand.value, yield* readTrustedKey(publicKey.value))
  }
  return yield* usageError("give --key, or --sign-command together with --public-key")
})
