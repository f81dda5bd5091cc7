/** Reads key files; what they hold is in `KeyFiles.ts`. */
import { Effect } from "effect"
import { configError } from "./Failure.ts"
import { readInput } from "./Files.ts"
import { decodePrivateKey, decodePublicKey } from "./KeyFiles.ts"

/** The 32-byte seed of a private key file. */
export const readPrivateKey = Effect.fnUntraced(function*(path: string) {
  const decoded = decodePrivateKey(yield* readInput(path, "private key"))
  return decoded.ok ? decoded.value : yield* configError(`private key ${path}: ${decoded.problem}`)
})

/** The public key, in base64, of either file of a pair. */
export const readPublicKey = Effect.fnUntraced(function*(path: string) {
  const decoded = decodePublicKey(yield* readInput(path, "key"))
  return decoded.ok ? decoded.value : yield* configError(`key ${path}: ${decoded.problem}`)
})
