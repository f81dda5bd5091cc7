/**
 * `nixfleet nonce mint`: allows a token to be used once, by putting its nonce on the signed list that the control plane
 * follows. Expired entries leave the list with every change (protocol.md §8.4).
 */
import { Clock, Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { decodeBootstrapToken, decodeTokenClaims } from "../../Schema/Enrollment.ts"
import { formatTimestamp } from "../../Schema/Primitives.ts"
import { parseStrict } from "../../Trust/CanonicalJson.ts"
import { Environment } from "../Environment.ts"
import { configError } from "../Failure.ts"
import { readInput } from "../Files.ts"
import { listDirectoryFlag, nonceList, publishList, readList } from "../SignedList.ts"
import { signing, signingFlags } from "../Signing.ts"

const input = {
  token: Argument.String("token").pipe(
    Argument.withDescription("Token file of `token mint`; may be given several times"),
    Argument.atLeast(1)
  ),
  dir: listDirectoryFlag,
  ...signingFlags
}

const readClaims = Effect.fnUntraced(function*(path: string) {
  const parsed = parseStrict(yield* readInput(path, "token"))
  const token = parsed.ok ? decodeBootstrapToken(parsed.value) : { ok: false as const, problem: parsed.problem.detail }
  const claims = token.ok ? decodeTokenClaims(token.value.claims) : token
  return claims.ok ? claims.value : yield* configError(`${path} is not a bootstrap token: ${claims.problem}`)
})

export const nonceMint = Command.make(
  "mint",
  input,
  Effect.fnUntraced(function*({ dir, token, ...given }) {
    const signer = yield* signing(given)
    const all = yield* Effect.forEach(token, readClaims)
    const now = Math.floor(yield* Clock.currentTimeMillis)
    const list = (yield* readList(nonceList, dir)) ?? nonceList.empty
    const mintedBy = (yield* Environment)["USER"] ?? null
    const minted = all.map(({ expiresAt, hostname, nonce }) => ({
      nonce,
      hostname,
      expiresAt,
      mintedAt: now,
      mintedBy
    }))
    const known = new Set(minted.map(({ nonce }) => nonce))
    const kept = list.bootstrapNonces.filter(({ expiresAt, nonce }) => expiresAt >= now && !known.has(nonce))
    const bootstrapNonces = [...kept, ...minted]
    const file = yield* publishList(nonceList, dir, { ...list, bootstrapNonces }, signer)
    for (const { expiresAt, hostname } of all) {
      yield* Console.log(`${hostname} may enroll until ${formatTimestamp(expiresAt)} (${file})`)
    }
  })
).pipe(Command.withDescription("Allow bootstrap tokens to be used, once each"))
