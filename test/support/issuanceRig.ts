/**
 * The routes of a control plane that issues certificates, with its real decision behind, at a time that the test sets: a fleet
 * that declares the keys of its hosts, tokens and lists as operators make them, an authority with a key in a file.
 */
import { Clock, Context, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { X509Certificate } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { type Authority, makeAuthority } from "../../examples/certificates.ts"
import type { Api } from "../../src/ControlPlane/Api/Api.ts"
import { beginning } from "../../src/ControlPlane/Identities.ts"
import type { IssuanceAnswer, Verified } from "../../src/ControlPlane/Input.ts"
import * as Issuance from "../../src/ControlPlane/Issuance.ts"
import type { Journal } from "../../src/ControlPlane/Journal.ts"
import { rawEd25519, readRequest } from "../../src/Layers/Net/Certificates.ts"
import type { ExchangeResponse, Peer } from "../../src/Layers/Net/Exchange.ts"
import { decodeBootstrapNonces, decodeRevocations } from "../../src/Schema/Artifacts.ts"
import type { Decoded } from "../../src/Schema/Decode.ts"
import { decodeIssuedCertificate } from "../../src/Schema/Enrollment.ts"
import { type Json, sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import { agent, apiRig, postJson, suffix } from "./apiRig.ts"
import { Plane, type Release, start, unitOf } from "./controlPlane.ts"
import { temporaryDirectory } from "./directories.ts"
import {
  csr,
  type HostKey,
  hostKey,
  type NonceEntry,
  nonceOf,
  noncesJson,
  revocationsJson,
  rootSlot,
  token,
  type TokenParts
} from "./identities.ts"
import { textOf } from "./tls.ts"

export const hour = 3_600_000
export const day = 24 * hour

const release: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }

/** A release whose fleet declares these keys; the others have none. */
export function unitWithKeys(keys: Readonly<Record<string, string>>): ReturnType<typeof unitOf> {
  const unit = unitOf(release)
  const { fleet } = unit
  const hosts = Object.fromEntries(
    Object.entries(fleet.value.hosts).map(([name, host]) => [name, { ...host, pubkey: keys[name] ?? null }])
  )
  const value = { ...fleet.value, hosts }
  return { ...unit, fleet: { ...fleet, value, hash: sha256Hex(JSON.stringify(value)) } }
}

/** Certificates of this authority, without files. */
export const issuanceOf = (authority: Authority): Issuance.IssuanceService => ({
  readRequest,
  rawKey: rawEd25519,
  issue: (host, key) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const validity = { notBefore: beginning(now), notAfter: beginning(now) + day }
      const text = authority.agentForKey(host, key, validity)
      return {
        text,
        commonName: `agent-${host}.${suffix}`,
        serial: new X509Certificate(text).serialNumber,
        ...validity
      }
    })
})

function listOf<A>(json: Json, signedAt: number, decode: (value: unknown) => Decoded<A>): Verified<A> {
  const decoded = decode(json)
  if (!decoded.ok) throw new Error(decoded.problem)
  const text = JSON.stringify(json)
  return {
    value: decoded.value,
    bytes: new Uint8Array(),
    signature: new Uint8Array(64),
    hash: sha256Hex(text),
    signedAt
  }
}

export const noncesOf = (entries: ReadonlyArray<NonceEntry>, signedAt = start) =>
  listOf(noncesJson(signedAt, entries), signedAt, decodeBootstrapNonces)
export const revocationsOf = (notBefore: Readonly<Record<string, number>>, signedAt = start) =>
  listOf(revocationsJson(signedAt, notBefore), signedAt, decodeRevocations)

export const h1 = hostKey("h1")
export const h2 = hostKey("h2")

/** What a host of the fleet presents; each part may be another. */
export interface Presented extends Partial<TokenParts> {
  readonly requestKey?: Pick<HostKey, "privateKey">
  readonly requestName?: string
  /** Over the whole body. */
  readonly body?: (body: { readonly [key: string]: unknown }) => unknown
  readonly from?: string
}

/** The answer with its body, read. */
export interface Told {
  readonly status: number
  readonly reason: unknown
  readonly certificate: X509Certificate | undefined
}

function told({ body, status }: ExchangeResponse): Told {
  const value: unknown = body.length === 0 ? {} : JSON.parse(textOf(body))
  const issued = decodeIssuedCertificate(value)
  const reason = typeof value === "object" && value !== null && "reason" in value ? value.reason : undefined
  return { status, reason, certificate: issued.ok ? new X509Certificate(issued.value.certPem) : undefined }
}

export const issuanceRig = Effect.fnUntraced(
  function*(overrides: Partial<Api> = {}, journal?: Journal["Service"], validitySecs = 30 * 24 * 3600) {
    yield* TestClock.setTime(start)
    const directory = yield* temporaryDirectory
    const authority = makeAuthority({ commonName: "Fleet CA", now: start, agentSuffix: suffix })
    const [cert, key] = [join(directory, "ca.pem"), join(directory, "ca-key.pem")]
    writeFileSync(cert, authority.cert)
    writeFileSync(key, authority.key, { mode: 0o600 })
    const context = yield* Layer.build(Issuance.layer({
      agentCnSuffix: suffix,
      agentCertValiditySecs: validitySecs,
      issuanceCaCert: cert,
      issuanceCaKey: key,
      issuanceCaSignCommand: undefined
    }))
    const issuance = Context.get(context, Issuance.Issuance)
    const plane = new Plane(journal)
    const unit = unitWithKeys({ h1: h1.openSsh, h2: h2.openSsh })
    plane.offer({ _tag: "ArtifactsVerified", artifacts: unit })
    plane.hear(release)
    const listed: NonceEntry = { nonce: nonceOf("a"), hostname: "h1", expiresAt: start + hour }
    plane.offer({ _tag: "NoncesVerified", list: noncesOf([listed]) })
    const rig = yield* apiRig({
      inbox: {
        event: () => Effect.die("unused"),
        heartbeat: () => Effect.die("unused"),
        issuance: (input) =>
          Effect.sync((): IssuanceAnswer => {
            const answer = plane.offer(input)
            if (answer._tag === "Granted" || answer._tag === "Denied") return answer
            throw new Error(`${input._tag} was answered with ${answer._tag}`)
          }),
        action: () => Effect.die("unused"),
        offer: () => false
      },
      state: () => plane.state,
      issuance,
      tokenKeys: Effect.succeed(rootSlot),
      ...overrides
    })
    const enroll = Effect.fnUntraced(function*(over: Presented = {}) {
      const parts = { host: "h1", key: h1, nonce: nonceOf("a"), issuedAt: start, expiresAt: start + hour, ...over }
      const body = {
        token: token(parts),
        csrPem: csr(over.requestName ?? parts.host, over.requestKey ?? parts.key)
      }
      const sent = over.body?.(body) ?? body
      return told(yield* rig.call(postJson("/v1/enroll", sent), undefined, over.from ?? "192.0.2.1"))
    })
    const renew = Effect.fnUntraced(
      function*(
        over: { readonly host?: string; readonly name?: string; readonly key?: Pick<HostKey, "privateKey"> } = {},
        peer: Partial<Peer> = {}
      ) {
        const host = over.host ?? "h1"
        const body = { csrPem: csr(over.name ?? host, over.key ?? hostKey(host)) }
        return told(yield* rig.call(postJson("/v1/agent/renew", body), { ...agent(host), ...peer }))
      }
    )
    const facts = () => plane.log.flatMap(({ entry }) => entry.kind === "identity" ? [entry.payload] : [])
    /** What is on record: tokens that were used, certificates that were given out. */
    const used = () => facts().flatMap((fact) => fact.fact === "NonceUsed" ? [fact.use] : [])
    const issued = () => facts().flatMap((fact) => fact.fact === "CertificateIssued" ? [fact.issued] : [])
    const pass = (ms: number) => {
      plane.now += ms
      return TestClock.adjust(ms)
    }
    return { call: rig.call, issuance, plane, unit, listed, enroll, renew, used, issued, pass }
  }
)
