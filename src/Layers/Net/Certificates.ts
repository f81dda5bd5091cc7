/**
 * X.509 as nixfleet needs it: makes and reads certificate requests, and makes certificates that somebody else signs (a key
 * in a file, a TPM, an HSM): the signer only ever sees the bytes to sign. Knows nothing of hosts, roles or fleets.
 *
 * Times and keys are arguments; the only randomness is the serial number. Failures of reading are sentences for a person;
 * a request is accepted only when it is signed with the key that it names.
 */
import { Attributes, CertificationRequest, CertificationRequestInfo } from "@peculiar/asn1-csr"
import { ECDSASigValue } from "@peculiar/asn1-ecc"
import { AsnConvert, OctetString } from "@peculiar/asn1-schema"
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_clientAuth,
  id_kp_serverAuth,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version
} from "@peculiar/asn1-x509"
import { DateTime, Result } from "effect"
import { createHash, createPublicKey, type KeyObject, randomBytes, sign, verify, X509Certificate } from "node:crypto"
import { isIP } from "node:net"
import type { Millis } from "../../Schema/Primitives.ts"

/** Of a signature; `ecdsa-p256` is over SHA-256, both encodings are X.509's. */
export type SignatureAlgorithm = "ed25519" | "ecdsa-p256"

const signatureOids: Readonly<Record<SignatureAlgorithm, string>> = {
  ed25519: "1.3.101.112",
  "ecdsa-p256": "1.2.840.10045.4.3.2"
}

/** Object identifiers of the two attributes of a name that are used (X.520). */
const commonNameOid = "2.5.4.3"
const unitOid = "2.5.4.11"

/** Which algorithm a key signs with; `undefined`: neither of the two. */
export function signatureAlgorithmOf(key: KeyObject): SignatureAlgorithm | undefined {
  if (key.asymmetricKeyType === "ed25519") return "ed25519"
  return key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1"
    ? "ecdsa-p256"
    : undefined
}

/** Signs for X.509 with a key that is in this process. */
export function signWith(key: KeyObject, bytes: Uint8Array): Uint8Array {
  return sign(key.asymmetricKeyType === "ed25519" ? null : "sha256", bytes, key)
}

/** A raw signature (r and s after each other for ECDSA) as X.509 encodes it. */
export function derSignature(algorithm: SignatureAlgorithm, raw: Uint8Array): Uint8Array {
  if (algorithm === "ed25519") return raw
  const half = raw.length / 2
  const value = new ECDSASigValue({
    r: positiveInteger(raw.subarray(0, half)),
    s: positiveInteger(raw.subarray(half))
  })
  return new Uint8Array(AsnConvert.serialize(value))
}

/** The shortest two's complement form: no leading zeros but the one that keeps the number positive. */
function positiveInteger(bytes: Uint8Array): ArrayBuffer {
  const first = bytes.findIndex((byte) => byte !== 0)
  const digits = first < 0 ? Uint8Array.of(0) : bytes.subarray(first)
  return arrayBuffer((digits[0] ?? 0) < 0x80 ? digits : Uint8Array.of(0, ...digits))
}

/** The 32 raw bytes of an ed25519 public key; `undefined` for another key. */
export function rawEd25519(key: KeyObject): Uint8Array | undefined {
  if (key.asymmetricKeyType !== "ed25519") return undefined
  return key.export({ type: "spki", format: "der" }).subarray(-32)
}

/** What a certificate says of its subject. */
export interface Subject {
  readonly commonName: string
  readonly organizationalUnit?: string
}

/** What to certify. */
export interface CertificateOrder {
  readonly subject: Subject
  readonly publicKey: KeyObject
  readonly notBefore: Millis
  readonly notAfter: Millis
  readonly usage: "authority" | "client" | "server"
  /** Host names and addresses of the subject. */
  readonly names: ReadonlyArray<string>
}

/** Who signs: the authority's certificate (`undefined`: it signs its own), and what its key signs with. */
export interface Signatory {
  readonly certificate: X509Certificate | undefined
  readonly algorithm: SignatureAlgorithm
}

const nameOf = ({ commonName, organizationalUnit }: Subject): Name =>
  new Name([
    ...(organizationalUnit === undefined ? [] : [attributeOf(unitOid, organizationalUnit)]),
    attributeOf(commonNameOid, commonName)
  ])

const attributeOf = (type: string, utf8String: string): RelativeDistinguishedName =>
  new RelativeDistinguishedName([
    new AttributeTypeAndValue({ type, value: new AttributeValue({ utf8String }) })
  ])

const publicKeyInfo = (key: KeyObject): SubjectPublicKeyInfo =>
  AsnConvert.parse(key.export({ type: "spki", format: "der" }), SubjectPublicKeyInfo)

/** RFC 5280, method 1 of §4.2.1.2. */
const keyIdentifier = (info: SubjectPublicKeyInfo): Uint8Array =>
  createHash("sha1").update(new Uint8Array(info.subjectPublicKey)).digest()

const extension = (extnID: string, critical: boolean, value: unknown): Extension =>
  new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) })

const dateOf = (at: Millis) => DateTime.toDateUtc(DateTime.makeUnsafe(at))

const arrayBuffer = (bytes: Uint8Array): ArrayBuffer => Uint8Array.from(bytes).buffer

function usages(usage: CertificateOrder["usage"]): ReadonlyArray<Extension> {
  const authority = usage === "authority"
  const bits = authority ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature
  const purpose = usage === "client" ? id_kp_clientAuth : id_kp_serverAuth
  return [
    // An authority of ours certifies hosts and operators, never another authority.
    extension(
      id_ce_basicConstraints,
      true,
      new BasicConstraints(authority ? { cA: true, pathLenConstraint: 0 } : { cA: false })
    ),
    extension(id_ce_keyUsage, true, new KeyUsage(bits)),
    ...(authority ? [] : [extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage([purpose]))])
  ]
}

/** The bytes that the authority's key signs. */
export function toBeSigned(order: CertificateOrder, { algorithm, certificate }: Signatory): Uint8Array {
  const info = publicKeyInfo(order.publicKey)
  const authorityInfo = certificate === undefined ? info : publicKeyInfo(certificate.publicKey)
  const names = order.names.map((name) => new GeneralName(isIP(name) === 0 ? { dNSName: name } : { iPAddress: name }))
  // 127 random bits after a leading one: positive, and never shorter (CA/Browser Forum: at least 64 bits).
  const serial = randomBytes(16)
  serial.writeUInt8(serial.readUInt8(0) & 0x7f | 0x40)
  const tbs = new TBSCertificate({
    version: Version.v3,
    serialNumber: arrayBuffer(serial),
    signature: new AlgorithmIdentifier({ algorithm: signatureOids[algorithm] }),
    issuer: certificate === undefined ? nameOf(order.subject) : subjectOf(certificate),
    validity: new Validity({ notBefore: dateOf(order.notBefore), notAfter: dateOf(order.notAfter) }),
    subject: nameOf(order.subject),
    subjectPublicKeyInfo: info,
    extensions: new Extensions([
      ...usages(order.usage),
      ...(names.length === 0
        ? []
        : [extension(id_ce_subjectAltName, false, new SubjectAlternativeName(names))]),
      extension(id_ce_subjectKeyIdentifier, false, new SubjectKeyIdentifier(arrayBuffer(keyIdentifier(info)))),
      extension(
        id_ce_authorityKeyIdentifier,
        false,
        new AuthorityKeyIdentifier({ keyIdentifier: new KeyIdentifier(arrayBuffer(keyIdentifier(authorityInfo))) })
      )
    ])
  })
  return new Uint8Array(AsnConvert.serialize(tbs))
}

/** The authority's name exactly as its certificate has it: chains are matched by these bytes. */
const subjectOf = (certificate: X509Certificate): Name =>
  AsnConvert.parse(certificate.raw, Certificate).tbsCertificate.subject

/** Puts the signature to what was signed. PEM. */
export function certificateOf(signed: Uint8Array, algorithm: SignatureAlgorithm, signature: Uint8Array): string {
  const tbsCertificate = AsnConvert.parse(signed, TBSCertificate)
  const certificate = new Certificate({
    tbsCertificate,
    tbsCertificateRaw: arrayBuffer(signed),
    signatureAlgorithm: new AlgorithmIdentifier({ algorithm: signatureOids[algorithm] }),
    signatureValue: arrayBuffer(signature)
  })
  return pem("CERTIFICATE", AsnConvert.serialize(certificate))
}

function pem(label: string, der: ArrayBuffer): string {
  const lines = Buffer.from(der).toString("base64").match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`
}

/** A request for a certificate of `key`'s public half, in the subject's name. PEM, PKCS#10. */
export function makeRequest(subject: Subject, key: KeyObject): string {
  const algorithm = signatureAlgorithmOf(key)
  if (algorithm === undefined) throw new TypeError("only ed25519 and P-256 keys can ask for a certificate")
  const info = new CertificationRequestInfo({
    subject: nameOf(subject),
    subjectPKInfo: publicKeyInfo(createPublicKey(key)),
    attributes: new Attributes()
  })
  const request = new CertificationRequest({
    certificationRequestInfo: info,
    signatureAlgorithm: new AlgorithmIdentifier({ algorithm: signatureOids[algorithm] }),
    signature: arrayBuffer(signWith(key, new Uint8Array(AsnConvert.serialize(info))))
  })
  return pem("CERTIFICATE REQUEST", AsnConvert.serialize(request))
}

/** What a request asks for. Everything else in it is ignored: an authority decides what it certifies. */
export interface CertificateRequest {
  readonly commonName: string
  readonly publicKey: KeyObject
}

/** PEM text longer than this is no request of an ed25519 or P-256 key. Characters. */
const requestLimit = 8192

const armour = /^\s*-----BEGIN CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE REQUEST-----\s*$/

/** Reads a PKCS#10 request and proves that whoever made it holds the key. */
export function readRequest(text: string): Result.Result<CertificateRequest, string> {
  if (text.length > requestLimit) return Result.fail(`the request is longer than ${requestLimit} characters`)
  const body = armour.exec(text)?.[1]
  if (body === undefined) return Result.fail("not one PEM CERTIFICATE REQUEST")
  const der = Buffer.from(body, "base64")
  return Result.try({
    try: () => AsnConvert.parse(der, CertificationRequest),
    catch: () => "not a certificate request"
  }).pipe(
    // The parser overlooks wrong lengths and what follows; DER has one encoding of a value.
    Result.filterOrFail(
      (request) => der.equals(Buffer.from(AsnConvert.serialize(request))),
      () => "not a certificate request in DER"
    ),
    Result.flatMap(checked)
  )
}

function checked(request: CertificationRequest): Result.Result<CertificateRequest, string> {
  const { certificationRequestInfo: info, certificationRequestInfoRaw: raw, signature, signatureAlgorithm } = request
  const names = info.subject.flatMap((part) => [...part]).filter(({ type }) => type === commonNameOid)
  const commonName = names[0]?.value.toString() ?? ""
  if (names.length !== 1 || commonName === "") return Result.fail("the request does not have one common name")
  const key = Result.try({
    try: () =>
      createPublicKey({ key: Buffer.from(AsnConvert.serialize(info.subjectPKInfo)), format: "der", type: "spki" }),
    catch: () => "the public key of the request cannot be read"
  })
  return Result.flatMap(key, (publicKey) => {
    const algorithm = signatureAlgorithmOf(publicKey)
    if (algorithm === undefined) return Result.fail("the key of the request is neither ed25519 nor P-256")
    if (signatureAlgorithm.algorithm !== signatureOids[algorithm] || raw === undefined) {
      return Result.fail("the request is signed with another algorithm than its key's")
    }
    const digest = algorithm === "ed25519" ? null : "sha256"
    return verify(digest, new Uint8Array(raw), publicKey, new Uint8Array(signature))
      ? Result.succeed({ commonName, publicKey })
      : Result.fail("the request is not signed with the key that it names")
  })
}
