/** What the benches take from the tests' builders. */
import { publicKeyOfSeed } from "../../src/Trust/Signature.ts"
import { releaseSeed } from "../../test/support/artifacts.ts"

export { closure, manifestJson, signed, signedAt, slot } from "../../test/support/artifacts.ts"
export const publicKeyBytes = publicKeyOfSeed(releaseSeed)
