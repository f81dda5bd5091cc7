/**
 * This host's own certificate and key as files, and the token for the first one: what is held, a request for a new one, putting
 * a new one in place. Whoever
 * speaks TLS reads the files again when they change (`TlsIdentity.ts`), so that what is installed here counts from
 * the next request on.
 *
 * Owns the two files. What is installed was proven to fit first; a crash leaves the old certificate or the new one. Failure:
 * `CertificateUnusable`, with a sentence that never repeats what a key file holds.
 */
import { Context, Effect, Layer, Result, Schema } from "effect"
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto"
import { existsSync, mkdirSync } from "node:fs"
import { dirname } from "node:path"
import type { Millis } from "../../Schema/Primitives.ts"
import { writeAtomically } from "../Disk/AtomicFile.ts"
import { readSmallFile } from "../Disk/SmallFile.ts"
import { newKeyPair, privateKeyPem } from "../KeyPairs.ts"
import { isOpenSshKey, openSshKeyToPkcs8 } from "./OpenSshKey.ts"

export class CertificateUnusable extends Schema.TaggedError<CertificateUnusable>()("CertificateUnusable", {
  reason: Schema.Literal("certificate-unusable"),
  message: Schema.String
}) {}

export interface HeldCertificate {
  readonly commonName: string
  /** Validity, epoch ms. */
  readonly notBefore: Millis
  readonly notAfter: Millis
}

export interface ClientFiles {
  readonly cert: string
  readonly key: string
  /** Where an operator may put a bootstrap token. */
  readonly bootstrapToken?: string | undefined
}

export class ClientCertificate extends Context.Service<ClientCertificate, {
  /** Where the certificate is, or is to be. */
  readonly file: string
  /** What is in the files now, whatever its dates; `undefined` when there is no certificate. */
  readonly held: Effect.Effect<HeldCertificate | undefined, CertificateUnusable>
  /** The bootstrap token that lies on this host, if any. */
  readonly bootstrapToken: Effect.Effect<Uint8Array | undefined, CertificateUnusable>
  /** Makes a new ed25519 key when there is no key file yet. Never replaces one. */
  readonly makeKey: Effect.Effect<void, CertificateUnusable>
  /** A certificate request in this name, signed with the key. */
  readonly request: (commonName: string) => Effect.Effect<string, CertificateUnusable>
  /** Puts a certificate of the key in place, durably. */
  readonly install: (pem: string) => Effect.Effect<HeldCertificate, CertificateUnusable>
}>()("nixfleet/Layers/Net/ClientCertificate") {
  /** For hosts that speak no TLS: nothing is held and nothing can be asked for. */
  static readonly layerNone: Layer.Layer<ClientCertificate> = Layer.sync(ClientCertificate, () => {
    const none = Effect.fail(unusable("this host has no certificate and no key"))
    return ClientCertificate.of({
      file: "nowhere",
      held: Effect.undefined,
      bootstrapToken: Effect.undefined,
      makeKey: none,
      request: () => none,
      install: () => none
    })
  })

  static readonly layerFiles = (files: ClientFiles): Layer.Layer<ClientCertificate> =>
    Layer.sync(ClientCertificate, () =>
      ClientCertificate.of({
        file: files.cert,
        held: attempt(() => existsSync(files.cert) ? describe(readPair(files)) : undefined),
        bootstrapToken: attempt(() => {
          const { bootstrapToken } = files
          return bootstrapToken === undefined || !existsSync(bootstrapToken) ? undefined : readSmallFile(bootstrapToken)
        }),
        makeKey: attempt(() => {
          if (existsSync(files.key)) return
          mkdirSync(dirname(files.key), { recursive: true, mode: 0o700 })
          writeAtomically(files.key, Buffer.from(privateKeyPem(newKeyPair("ed25519").privateKey)))
        }),
        request: Effect.fnUntraced(function*(commonName) {
          const key = yield* attempt(() => readKey(files.key))
          // Needed once in weeks, and worth more memory than the rest of an idle agent's network code.
          const { makeRequest } = yield* Effect.promise(() => import("./Certificates.ts"))
          return yield* attempt(() => makeRequest({ commonName }, key))
        }),
        install: (pem) =>
          attempt(() => {
            const certificate = fitting(pem, readKey(files.key), "the certificate that was issued")
            writeAtomically(files.cert, Buffer.from(pem))
            return describe(certificate)
          })
      }))
}

const unusable = (message: string) => new CertificateUnusable({ reason: "certificate-unusable", message })

const attempt = <A>(read: () => A): Effect.Effect<A, CertificateUnusable> =>
  Effect.try({
    try: read,
    catch: (cause) => cause instanceof CertificateUnusable ? cause : unusable(String(cause))
  })

const describe = (certificate: X509Certificate): HeldCertificate => ({
  commonName: /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? "",
  notBefore: Date.parse(certificate.validFrom),
  notAfter: Date.parse(certificate.validTo)
})

const readPair = (files: ClientFiles): X509Certificate =>
  fitting(readSmallFile(files.cert).toString(), readKey(files.key), files.cert)

function readKey(file: string): KeyObject {
  const text = readSmallFile(file).toString()
  const pem = isOpenSshKey(text) ? openSshKeyToPkcs8(text) : Result.succeed(text)
  if (Result.isFailure(pem)) throw unusable(`${file}: ${pem.failure}`)
  try {
    return createPrivateKey(pem.success)
  } catch {
    throw unusable(`${file}: is not an unencrypted private key`)
  }
}

/** A certificate of this key. `what`: how to call it in a complaint. */
function fitting(pem: string, key: KeyObject, what: string): X509Certificate {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(pem)
  } catch {
    throw unusable(`${what} is not a PEM certificate`)
  }
  if (!certificate.checkPrivateKey(key)) throw unusable(`${what} is not of this host's key`)
  return certificate
}
