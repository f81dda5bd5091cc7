/**
 * The fleet's certificate authority on an operator's machine: the flags that name it, and the pair of files that a
 * certificate and its key are.
 */
import { Clock, Effect, Option } from "effect"
import { Flag } from "effect/cli"
import { newKeyPair, privateKeyPem } from "../Layers/KeyPairs.ts"
import type { Subject } from "../Layers/Net/Certificates.ts"
import { openIssuer } from "../Layers/Net/Issuer.ts"
import { encodeUtf8 } from "../Trust/CanonicalJson.ts"
import { configError, failed, usageError } from "./Failure.ts"
import { publish, spare } from "./Files.ts"

/** Certificates start that much earlier: clocks differ. */
export const backdatedMs = 300_000
export const dayMs = 86_400_000

export const authorityFlags = {
  caCert: Flag.String("ca-cert").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Certificate of the authority, of `ca init`")
  ),
  caKey: Flag.String("ca-key").pipe(
    Flag.withMetavar("FILE"),
    Flag.optional,
    Flag.withDescription("Private key of the authority")
  ),
  caSignCommand: Flag.String("ca-sign-command").pipe(
    Flag.withMetavar("COMMAND"),
    Flag.optional,
    Flag.withDescription(
      "Instead of --ca-key: a command for /bin/sh that signs the file $NIXFLEET_INPUT and writes the raw signature to $NIXFLEET_OUTPUT"
    )
  )
}

export interface AuthorityFlags {
  readonly caCert: string
  readonly caKey: Option.Option<string>
  readonly caSignCommand: Option.Option<string>
}

export const outputCertificateFlags = {
  out: Flag.String("out").pipe(
    Flag.withAlias("o"),
    Flag.withMetavar("PREFIX"),
    Flag.withDescription("Writes PREFIX.pem and PREFIX-key.pem")
  ),
  force: Flag.Boolean("force").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Replace files that are there")
  )
}

export const daysFlag = (fallback: number) =>
  Flag.Int("days").pipe(
    Flag.withDefault(fallback),
    Flag.withDescription(`Days for which the certificate is valid (default: ${fallback})`)
  )

/** A hundred years: no date that a certificate or a token holds lies beyond the year 9999. */
const longestDays = 36_500

/** A whole number of days or hours in ms. */
export const checkSpan = (flag: string, count: number, unitMs: number) => {
  const most = longestDays * dayMs / unitMs
  return count >= 1 && count <= most
    ? Effect.succeed(count * unitMs)
    : Effect.fail(usageError(`--${flag} must be from 1 to ${most}`))
}

export const authority = Effect.fnUntraced(function*({ caCert, caKey, caSignCommand }: AuthorityFlags) {
  const key = Option.isSome(caKey) && Option.isNone(caSignCommand)
    ? { file: caKey.value }
    : Option.isSome(caSignCommand) && Option.isNone(caKey)
    ? { command: caSignCommand.value }
    : undefined
  if (key === undefined) return yield* usageError("give --ca-key or --ca-sign-command")
  return yield* Effect.mapError(openIssuer(caCert, key), ({ message }) => configError(message))
})

export const pairFiles = (prefix: string) => ({ cert: `${prefix}.pem`, key: `${prefix}-key.pem` })

/** The key is for its owner only. */
export const publishPair = (prefix: string, cert: string, key: string) => {
  const files = pairFiles(prefix)
  return publish([
    { path: files.key, bytes: encodeUtf8(key), mode: 0o600 },
    { path: files.cert, bytes: encodeUtf8(cert) }
  ])
}

/** A new P-256 key and its certificate by the authority, in two files. */
export const mintPair = Effect.fnUntraced(function*(
  given: AuthorityFlags & { readonly out: string; readonly force: boolean; readonly days: number },
  wanted: { readonly subject: Subject; readonly usage: "client" | "server"; readonly names: ReadonlyArray<string> }
) {
  const spanMs = yield* checkSpan("days", given.days, dayMs)
  const files = pairFiles(given.out)
  yield* spare([files.cert, files.key], given.force)
  const issuer = yield* authority(given)
  const { privateKey, publicKey } = newKeyPair("p256")
  const now = Math.floor(yield* Clock.currentTimeMillis)
  const cert = yield* issuer.issue({
    ...wanted,
    publicKey,
    notBefore: now - backdatedMs,
    notAfter: now + spanMs
  }).pipe(Effect.mapError(({ message }) => failed(message)))
  yield* publishPair(given.out, cert, privateKeyPem(privateKey))
  return files
})
