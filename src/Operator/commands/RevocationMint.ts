/**
 * `nixfleet revocation mint`: makes every certificate of a host void that was issued before a time, by a signed list that the
 * control plane follows; or takes that back. A host that may come back enrolls anew.
 */
import { Clock, Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { formatTimestamp, parseTimestamp } from "../../Schema/Primitives.ts"
import { Environment } from "../Environment.ts"
import { failed, usageError } from "../Failure.ts"
import { hostnameFlag } from "../HostKeys.ts"
import { listDirectoryFlag, publishList, readList, revocationList } from "../SignedList.ts"
import { signing, signingFlags } from "../Signing.ts"

const flags = {
  hostname: hostnameFlag,
  dir: listDirectoryFlag,
  notBefore: Flag.String("not-before").pipe(
    Flag.withMetavar("TIME"),
    Flag.optional,
    Flag.withDescription("Certificates issued before this time (RFC 3339) are void (default: now)")
  ),
  reason: Flag.String("reason").pipe(Flag.optional, Flag.withDescription("Why, for whoever reads the list")),
  ...signingFlags
}

export const revocationMint = Command.make(
  "mint",
  flags,
  Effect.fnUntraced(function*({ dir, hostname, notBefore, reason, ...given }) {
    const now = Math.floor(yield* Clock.currentTimeMillis)
    const from = Option.isNone(notBefore) ? now : parseTimestamp(notBefore.value)
    if (from === undefined) {
      return yield* usageError("--not-before: expected an RFC 3339 time, such as 2026-11-20T12:00:00Z")
    }
    const signer = yield* signing(given)
    const list = (yield* readList(revocationList, dir)) ?? revocationList.empty
    const entry = {
      hostname,
      notBefore: from,
      reason: Option.getOrNull(reason),
      revokedBy: (yield* Environment)["USER"] ?? null
    }
    const others = list.revocations.filter((known) => known.hostname !== hostname)
    const file = yield* publishList(revocationList, dir, { ...list, revocations: [...others, entry] }, signer)
    yield* Console.log(`certificates of ${hostname} issued before ${formatTimestamp(from)} are void (${file})`)
  })
).pipe(Command.withDescription("Make the certificates of a host void"))

export const revocationLift = Command.make(
  "lift",
  { hostname: hostnameFlag, dir: listDirectoryFlag, ...signingFlags },
  Effect.fnUntraced(function*({ dir, hostname, ...given }) {
    const signer = yield* signing(given)
    const list = (yield* readList(revocationList, dir)) ?? revocationList.empty
    const revocations = list.revocations.filter((known) => known.hostname !== hostname)
    if (revocations.length === list.revocations.length) return yield* failed(`${hostname} is not on the list in ${dir}`)
    const file = yield* publishList(revocationList, dir, { ...list, revocations }, signer)
    yield* Console.log(`certificates of ${hostname} count again (${file})`)
  })
).pipe(Command.withDescription("Take a host off the list: its certificates count again"))
