/**
 * Issues certificates in the name of one authority, whose key is a file or behind a sign command. Certifies what it is told to:
 * who may have what is decided above. What it hands out is proven first: a command that signs with another key is found
 * here, not by a host that is locked out.
 *
 * Failures: at the start, an authority that cannot be used (`IssuerUnusable`); later `IssueFailed`, with nothing issued.
 */
import { Context, Effect, Layer, Result, Schema } from "effect"
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto"
import { readSmallFile } from "../Disk/SmallFile.ts"
import { signByCommand } from "../SignCommand.ts"
import {
  certificateOf,
  type CertificateOrder,
  derSignature,
  type SignatureAlgorithm,
  signatureAlgorithmOf,
  signWith,
  toBeSigned
} from "./Certificates.ts"

/** Where an authority's key is: PKCS#8 or SEC1 PEM, or the command that signs with it. */
export type SigningKey = { readonly file: string } | { readonly command: string }

export class IssuerUnusable extends Schema.TaggedError<IssuerUnusable>()("IssuerUnusable", {
  reason: Schema.Literal("issuer-unusable"),
  message: Schema.String
}) {}

export class IssueFailed extends Schema.TaggedError<IssueFailed>()("IssueFailed", {
  reason: Schema.Literal("issue-failed"),
  message: Schema.String
}) {}

export class Issuer extends Context.Service<Issuer, {
  /** The authority's own certificate. */
  readonly authority: X509Certificate
  /** A certificate, PEM; it never outlives the authority's own. */
  readonly issue: (order: CertificateOrder) => Effect.Effect<string, IssueFailed>
}>()("nixfleet/Layers/Net/Issuer") {}

const unusable = (message: string) => new IssuerUnusable({ reason: "issuer-unusable", message })
const failure = (message: string) => new IssueFailed({ reason: "issue-failed", message })

const readAuthority = (file: string): Effect.Effect<X509Certificate, IssuerUnusable> =>
  Effect.try({
    try: () => new X509Certificate(readSmallFile(file)),
    catch: (error) => unusable(`${file} is not a readable PEM certificate: ${String(error)}`)
  }).pipe(
    Effect.filterOrFail(({ ca }) => ca, () => unusable(`${file} is not the certificate of an authority`))
  )

const readKey = (file: string, authority: X509Certificate): Effect.Effect<KeyObject, IssuerUnusable> =>
  Effect.try({
    try: () => createPrivateKey(readSmallFile(file)),
    // Not the cause: it might repeat a part of the file.
    catch: () => unusable(`${file} is not a readable, unencrypted private key`)
  }).pipe(
    Effect.filterOrFail(
      (key) => authority.checkPrivateKey(key),
      () => unusable(`${file} is not the key of the authority's certificate`)
    )
  )

type Sign = (bytes: Uint8Array) => Effect.Effect<Uint8Array, IssueFailed>

const signer = Effect.fnUntraced(function*(key: SigningKey, authority: X509Certificate, algorithm: SignatureAlgorithm) {
  if ("command" in key) {
    const sign: Sign = (bytes) =>
      signByCommand(key.command, bytes).pipe(
        Effect.mapBoth({
          onSuccess: (raw) => derSignature(algorithm, raw),
          onFailure: (error) => failure(error.message)
        })
      )
    return sign
  }
  const privateKey = yield* readKey(key.file, authority)
  const sign: Sign = (bytes) => Effect.sync(() => signWith(privateKey, bytes))
  return sign
})

const issue = (authority: X509Certificate, algorithm: SignatureAlgorithm, sign: Sign) =>
  Effect.fnUntraced(function*(order: CertificateOrder) {
    const authorityEnds = Date.parse(authority.validTo)
    if (order.notBefore >= authorityEnds) return yield* failure(`the authority ended at ${authority.validTo}`)
    const bytes = toBeSigned(
      { ...order, notAfter: Math.min(order.notAfter, authorityEnds) },
      { certificate: authority, algorithm }
    )
    const text = certificateOf(bytes, algorithm, yield* sign(bytes))
    const proven = Result.try(() => new X509Certificate(text).verify(authority.publicKey))
    return Result.isSuccess(proven) && proven.success
      ? text
      : yield* failure("what was signed does not verify with the authority's key: is it another key's?")
  })

/** An authority from its certificate's file and its key. */
export const openIssuer = Effect.fnUntraced(function*(certificateFile: string, key: SigningKey) {
  const authority = yield* readAuthority(certificateFile)
  const algorithm = signatureAlgorithmOf(authority.publicKey)
  if (algorithm === undefined) {
    return yield* unusable(`${certificateFile}: the authority's key is neither P-256 nor ed25519`)
  }
  return Issuer.of({ authority, issue: issue(authority, algorithm, yield* signer(key, authority, algorithm)) })
})

export const layer = (certificateFile: string, key: SigningKey): Layer.Layer<Issuer, IssuerUnusable> =>
  Layer.effect(Issuer, openIssuer(certificateFile, key))
