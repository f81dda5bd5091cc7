/**
 * `nixfleet token mint`: a bootstrap token with which one host, holding one key, enrolls once. Only its nonce has to be
 * published (`nonce mint`); the token itself goes to the host.
 */
import { Clock, Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { SecureRandom } from "effect/crypto"
import { encodeTokenClaims, tokenVersion } from "../../Schema/Enrollment.ts"
import { keyFingerprint, tokenBytes } from "../../Trust/BootstrapToken.ts"
import { encodeUtf8 } from "../../Trust/CanonicalJson.ts"
import { checkSpan } from "../Authority.ts"
import { configError } from "../Failure.ts"
import { publish, readInput, spare } from "../Files.ts"
import { hostnameFlag, rawHostKey } from "../HostKeys.ts"
import { signing, signingFlags } from "../Signing.ts"

const hourMs = 3_600_000
const nonceBytes = 16

const flags = {
  ...signingFlags,
  hostname: hostnameFlag,
  hostKey: Flag.String("host-key").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("The host's ed25519 public key, for instance its /etc/ssh/ssh_host_ed25519_key.pub")
  ),
  validityHours: Flag.Int("validity-hours").pipe(
    Flag.withDefault(24),
    Flag.withDescription("How long the host may take to enroll (default: 24)")
  ),
  out: Flag.String("out").pipe(
    Flag.withAlias("o"),
    Flag.withMetavar("FILE"),
    Flag.optional,
    Flag.withDescription("File to write, readable by its owner only; standard output when not given")
  ),
  force: Flag.Boolean("force").pipe(Flag.withDefault(false), Flag.withDescription("Replace a file that is there"))
}

export const tokenMint = Command.make(
  "mint",
  flags,
  Effect.fnUntraced(function*({ force, hostKey, hostname, out, validityHours, ...given }) {
    const validityMs = yield* checkSpan("validity-hours", validityHours, hourMs)
    const signer = yield* signing(given)
    if (signer.key.algorithm !== "ed25519") return yield* configError("tokens are signed with an ed25519 key")
    const raw = rawHostKey(yield* readInput(hostKey, "host key"))
    if (!raw.ok) return yield* configError(`${hostKey}: ${raw.problem}`)
    const { randomBytes } = yield* SecureRandom.SecureRandom
    const now = Math.floor(yield* Clock.currentTimeMillis)
    const claims = encodeTokenClaims({
      hostname,
      expectedPubkeyFingerprint: keyFingerprint(raw.value),
      issuedAt: now,
      expiresAt: now + validityMs,
      nonce: Buffer.from(yield* randomBytes(nonceBytes)).toString("hex")
    })
    const signature = Buffer.from(yield* signer.sign(tokenBytes(claims))).toString("base64")
    const text = JSON.stringify({ version: tokenVersion, claims, signature }, undefined, 2)
    if (Option.isNone(out)) return yield* Console.log(text)
    yield* spare([out.value], force)
    yield* publish([{ path: out.value, bytes: encodeUtf8(`${text}\n`), mode: 0o600 }])
    yield* Console.log(`wrote ${out.value} for ${hostname}, good until ${claims.expiresAt}`)
  }, Effect.provide(SecureRandom.layerWebCrypto))
).pipe(Command.withDescription("Make a bootstrap token for one host"))
