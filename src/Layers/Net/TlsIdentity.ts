/**
 * Certificates and keys of one end of TLS, read from PEM files and read again when a file has changed, so that a renewal
 * is used by the next request without a restart (D16). Peers are checked against the given CA file only, never against
 * the roots of the operating system.
 *
 * Failures: at the start a file that cannot be used is a `TlsIdentityError`; later it is a warning, and what worked
 * before stays in use (a renewal in mid-write, a certificate without its key yet).
 */
import { Effect, Result, Schema } from "effect"
import { createPrivateKey, X509Certificate } from "node:crypto"
import { statSync } from "node:fs"
import { readSmallFile } from "../Disk/SmallFile.ts"
import { logOf } from "../Logging.ts"
import { isOpenSshKey, openSshKeyToPkcs8 } from "./OpenSshKey.ts"

const log = logOf("identity")

/** Where the material is. Certificate and key come together or not at all. */
export interface TlsFiles {
  /** Roots for the other end's certificate; may hold several. */
  readonly ca: string
  readonly cert?: string | undefined
  /** PKCS#8 or SEC1 PEM, or an unencrypted OpenSSH ed25519 key. */
  readonly key?: string | undefined
}

/** PEM text as `node:tls` takes it. */
export interface TlsMaterial {
  readonly ca: string
  readonly cert?: string
  readonly key?: string
}

export class TlsIdentityError extends Schema.TaggedError<TlsIdentityError>()("TlsIdentityError", {
  reason: Schema.Literals(["tls-file-unreadable", "tls-file-invalid", "tls-identity-incomplete"]),
  /** What was attempted on which file, and what came back. Never key material. */
  message: Schema.String
}) {}

/** The material in use. */
export interface TlsIdentity {
  /** Looks at the files (a `stat` each) and answers the newest usable material; the same object while nothing changed. */
  readonly current: Effect.Effect<TlsMaterial>
}

const describe = (cause: unknown) => cause instanceof Error ? cause.message : String(cause)

function read(path: string): string {
  try {
    return readSmallFile(path).toString()
  } catch (cause) {
    throw new TlsIdentityError({ reason: "tls-file-unreadable", message: `cannot read ${path}: ${describe(cause)}` })
  }
}

function invalid(path: string, detail: string): TlsIdentityError {
  return new TlsIdentityError({ reason: "tls-file-invalid", message: `${path}: ${detail}` })
}

function readCertificate(path: string): string {
  const text = read(path)
  try {
    // Parsed for its error: `node:tls` takes text without any certificate for an empty list of roots, and would then trust nobody, silently.
    void new X509Certificate(text)
    return text
  } catch (cause) {
    throw invalid(path, `is not a PEM certificate (${describe(cause)})`)
  }
}

function readKey(path: string): string {
  const text = read(path)
  if (!isOpenSshKey(text)) return text
  const converted = openSshKeyToPkcs8(text)
  if (Result.isFailure(converted)) throw invalid(path, converted.failure)
  return converted.success
}

/** `node:tls` takes an empty text for no key at all, and would then serve nobody. */
function isPair(path: string, { cert, key }: Required<TlsMaterial>): boolean {
  try {
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))
  } catch (cause) {
    throw invalid(path, `is not an unencrypted private key (${describe(cause)})`)
  }
}

function load(files: TlsFiles): TlsMaterial {
  const ca = readCertificate(files.ca)
  if (files.cert === undefined && files.key === undefined) return { ca }
  if (files.cert === undefined || files.key === undefined) {
    const [given, missing] = files.cert === undefined ? ["key", "certificate"] : ["certificate", "key"]
    throw new TlsIdentityError({
      reason: "tls-identity-incomplete",
      message: `a ${given} is configured without its ${missing}: give both or neither`
    })
  }
  const material = { ca, cert: readCertificate(files.cert), key: readKey(files.key) }
  if (!isPair(files.key, material)) throw invalid(files.key, `is not the key of the certificate ${files.cert}`)
  return material
}

/** Changes whenever a file was written or replaced: renewals rename a new file into place. Total. */
function stamp(files: TlsFiles): string {
  return [files.ca, files.cert, files.key].map((path) => path === undefined ? "" : stampOf(path)).join("|")
}

function stampOf(path: string): string {
  try {
    const { ctimeNs, ino, mtimeNs, size } = statSync(path, { bigint: true })
    return `${ino}:${size}:${mtimeNs}:${ctimeNs}`
  } catch (cause) {
    return describe(cause)
  }
}

const attempt = (files: TlsFiles): Effect.Effect<TlsMaterial, TlsIdentityError> =>
  Effect.try({
    try: () => load(files),
    catch: (cause) =>
      cause instanceof TlsIdentityError
        ? cause
        : new TlsIdentityError({ reason: "tls-file-unreadable", message: describe(cause) })
  })

/** Reads the files now and whenever they change afterwards. */
export const openTlsIdentity = Effect.fnUntraced(function*(files: TlsFiles) {
  // Taken before the files are read: a change in between is then seen as one.
  let seen = stamp(files)
  let material = yield* attempt(files)
  const current = Effect.suspend(() => {
    const found = stamp(files)
    if (found === seen) return Effect.succeed(material)
    seen = found
    return attempt(files).pipe(
      Effect.tap((loaded) => Effect.sync(() => material = loaded)),
      Effect.tap(() => log.info("the TLS identity was read again because its files changed")),
      Effect.catch((error) =>
        Effect.map(
          log.warn("the TLS identity in use is kept", { reason: error.reason, detail: error.message }),
          () => material
        )
      )
    )
  })
  return { current } satisfies TlsIdentity
})
