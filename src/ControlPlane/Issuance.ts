/**
 * The authority by which this control plane gives hosts their certificates (control-plane.md §8.3), when it has one: what such a
 * certificate says, how long it counts, one signature at a time. Who may have one is decided elsewhere.
 *
 * Owns no secret: the authority's key is read once by `Issuer`, or never leaves its sign command. Failures: `IssuerUnusable` at
 * the start; a signature that is not made, or not in time, is `IssueFailed`, and nothing is issued.
 */
import { Clock, Context, Effect, Layer, type Result, Semaphore } from "effect"
import { type KeyObject, X509Certificate } from "node:crypto"
import type { CertificateRequest } from "../Layers/Net/Certificates.ts"
import type { IssueFailed, Issuer, IssuerUnusable, SigningKey } from "../Layers/Net/Issuer.ts"
import type { ControlPlaneConfig } from "../Schema/ControlPlaneConfig.ts"
import { agentCommonName } from "../Schema/Identity.ts"
import { millis } from "../Schema/Options.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { beginning } from "./Identities.ts"

export interface HostCertificate {
  /** PEM. */
  readonly text: string
  readonly commonName: string
  /** Hex. */
  readonly serial: string
  readonly notBefore: Millis
  readonly notAfter: Millis
}

export interface IssuanceService {
  /** A PEM request with a proof that its maker holds the key; what is wrong with it otherwise. */
  readonly readRequest: (pem: string) => Result.Result<CertificateRequest, string>
  /** The 32 raw bytes of an ed25519 key; `undefined` for another kind. */
  readonly rawKey: (key: KeyObject) => Uint8Array | undefined
  readonly issue: (host: string, key: KeyObject) => Effect.Effect<HostCertificate, IssueFailed>
}

/** `undefined` where no authority is configured: then nobody is enrolled here, and nothing is renewed. */
export const Issuance = Context.Reference<IssuanceService | undefined>("nixfleet/ControlPlane/Issuance", {
  defaultValue: () => undefined
})

/** Only where certificates are made is the library loaded that makes them. */
export const loadIssuer = Effect.promise(() => import("../Layers/Net/Issuer.ts"))

/** How long a signature may take, with those before it, ms: agents wait 30 s. */
const issueTimeoutMs = 20_000

/** What of the configuration counts here. */
export type IssuanceConfig = Pick<
  ControlPlaneConfig,
  "agentCertValiditySecs" | "agentCnSuffix" | "issuanceCaCert" | "issuanceCaKey" | "issuanceCaSignCommand"
>

/** Where the authority's key is; `undefined` when none is configured. */
export const signingKey = ({ issuanceCaKey, issuanceCaSignCommand }: IssuanceConfig): SigningKey | undefined =>
  issuanceCaKey !== undefined
    ? { file: issuanceCaKey }
    : issuanceCaSignCommand === undefined
    ? undefined
    : { command: issuanceCaSignCommand }

/**
 * Nothing of a request but its key is certified (C-W20). A certificate begins now, and not a while before as an operator's does:
 * it must be newer than the revocation after which its host enrolled.
 */
const hostCertificate = Effect.fnUntraced(function*(
  issuer: Issuer["Service"],
  { agentCertValiditySecs, agentCnSuffix }: IssuanceConfig,
  host: string,
  publicKey: KeyObject
) {
  const commonName = agentCommonName(host, agentCnSuffix)
  const notBefore = beginning(yield* Clock.currentTimeMillis)
  const text = yield* issuer.issue({
    subject: { commonName },
    publicKey,
    notBefore,
    notAfter: notBefore + millis(agentCertValiditySecs),
    usage: "client",
    names: [commonName]
  })
  const { serialNumber, validToDate } = new X509Certificate(text)
  return { text, commonName, serial: serialNumber, notBefore, notAfter: validToDate.getTime() }
})

const make = Effect.fnUntraced(function*(
  config: IssuanceConfig
): Effect.fn.Return<IssuanceService | undefined, IssuerUnusable> {
  const key = signingKey(config)
  if (config.issuanceCaCert === undefined || key === undefined) return undefined
  const { rawEd25519, readRequest } = yield* Effect.promise(() => import("../Layers/Net/Certificates.ts"))
  const issuing = yield* loadIssuer
  const issuer = yield* issuing.openIssuer(config.issuanceCaCert, key)
  const one = yield* Semaphore.make(1)
  return {
    readRequest,
    rawKey: rawEd25519,
    issue: (host, publicKey) =>
      one.withPermits(1)(hostCertificate(issuer, config, host, publicKey)).pipe(Effect.timeoutOrElse({
        duration: issueTimeoutMs,
        orElse: () =>
          new issuing.IssueFailed({
            reason: "issue-failed",
            message: `not signed within ${issueTimeoutMs / 1000} seconds`
          })
      }))
  }
})

export const layer = (config: IssuanceConfig): Layer.Layer<never, IssuerUnusable> =>
  Layer.effect(Issuance, make(config))
