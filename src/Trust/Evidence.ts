/**
 * Whether a host's evidence may be believed (agent.md §9.3 with A-W62, A-W63; protocol.md §7.8, §9.3): signed by the host's
 * ed25519 key over the canonical form of the bytes as they were received, of a known version, about this host, and fresh.
 * Pure: bytes, key and time in, verdict out. What the controls say is not judged here.
 */
import { decodeEvidence, type Evidence, evidenceSchemaVersion } from "../Schema/Evidence.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import { canonicalBytes, type Json, parseStrict } from "./CanonicalJson.ts"
import { staleness } from "./Freshness.ts"
import { describeUnusable } from "./Keys.ts"
import { rawOpenSshKey } from "./OpenSshPublicKey.ts"
import { parseKey, signatureLength, verifies } from "./Signature.ts"

export interface EvidenceRequest {
  /** As they lie on the disk. */
  readonly bytes: Uint8Array
  /** Content of the `.sig` file: base64 of 64 bytes; a line break at its end is forgiven. */
  readonly signature: Uint8Array
  /** Content of the key file: one OpenSSH line. */
  readonly key: Uint8Array
  readonly hostname: string
  readonly now: Millis
  readonly maxAgeMs: Millis
}

export type EvidenceVerdict =
  | { readonly ok: true; readonly evidence: Evidence }
  /** A sentence; nothing of a file that was not believed is repeated in it. */
  | { readonly ok: false; readonly problem: string }

const no = (problem: string): EvidenceVerdict => ({ ok: false, problem })

/** In the order of protocol.md §9.3: signature, version, shape; then whose it is and of when. */
export function judgeEvidence(request: EvidenceRequest): EvidenceVerdict {
  const canonical = canonicalBytes(request.bytes)
  if (!canonical.ok) return no(`not JSON that has one meaning: ${canonical.problem.detail}`)
  const unsigned = signatureProblem(canonical.bytes, request)
  if (unsigned !== undefined) return no(unsigned)
  const parsed = parseStrict(request.bytes)
  if (!parsed.ok) return no(`not JSON: ${parsed.problem.detail}`)
  const version = versionOf(parsed.value)
  if (version !== evidenceSchemaVersion) {
    return no(`schemaVersion is ${JSON.stringify(version) ?? "missing"}, known is ${evidenceSchemaVersion}`)
  }
  const decoded = decodeEvidence(parsed.value)
  return decoded.ok ? judgeContent(decoded.value, request) : no(`not evidence: ${decoded.problem}`)
}

function judgeContent(evidence: Evidence, { hostname, maxAgeMs, now }: EvidenceRequest): EvidenceVerdict {
  if (evidence.hostname !== hostname) return no(`evidence of ${evidence.hostname}, this host is ${hostname}`)
  const collected = `collected at ${formatTimestamp(evidence.collectedAt)}, now ${formatTimestamp(now)}`
  switch (staleness(evidence.collectedAt, maxAgeMs, now)) {
    case "Stale":
      return no(`stale: ${collected}, may be ${Math.round(maxAgeMs / 1000)} s old`)
    case "FutureDated":
      return no(`collected in the future: ${collected}`)
    case undefined:
      return { ok: true, evidence }
  }
}

function signatureProblem(message: Uint8Array, request: EvidenceRequest): string | undefined {
  const raw = rawOpenSshKey(Buffer.from(request.key).toString("latin1"))
  if (raw === undefined) return "the key file holds no ssh-ed25519 public key"
  const key = parseKey({ algorithm: "ed25519", public: Buffer.from(raw).toString("base64") })
  const unusable = describeUnusable(key)
  if (unusable !== undefined) return unusable
  const text = Buffer.from(request.signature).toString("latin1").trimEnd()
  const signature = Buffer.from(text, "base64")
  // Node skips what is not base64: only a text that it would write itself is meant.
  if (signature.length !== signatureLength || signature.toString("base64") !== text) {
    return `the signature is not base64 of ${signatureLength} bytes`
  }
  return verifies(key, message, signature) ? undefined : "the host's key did not make this signature over this evidence"
}

const versionOf = (value: Json): Json | undefined => {
  if (value === null || typeof value !== "object" || !Object.hasOwn(value, "schemaVersion")) return undefined
  const version = Object.entries(value).find(([key]) => key === "schemaVersion")?.[1]
  // Only a short value is told: the sentence travels.
  return typeof version === "object" || typeof version === "string" ? typeof version : version
}
