/**
 * A throw-away certificate authority for the demo and the tests: P-256 keys, certificates as the control plane expects
 * them (an agent is `CN=agent-<id>.<suffix>`, an operator's certificate says so in its unit), PEM files with keys of mode 0600.
 * Not for real fleets: `nixfleet ca init` makes the authority of those.
 */
import { generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto"
import { chmodSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import {
  certificateOf,
  type CertificateOrder,
  signWith,
  type Subject,
  toBeSigned
} from "../src/Layers/Net/Certificates.ts"
import { operatorUnit } from "../src/Schema/Identity.ts"

const algorithm = "ecdsa-p256"
const day = 86_400_000

/** A certificate and its private key (PKCS#8), both PEM text. */
export interface Pem {
  readonly cert: string
  readonly key: string
}

/** Paths of what `writePem` wrote. */
export interface PemFiles {
  readonly cert: string
  readonly key: string
}

export interface Validity {
  /** Epoch milliseconds. */
  readonly notBefore: number
  readonly notAfter: number
}

/** What an authority issues. Every certificate of `agent` and `operator` is for client authentication only. */
export interface Authority {
  /** The authority's own certificate and its private key (PKCS#8), PEM. */
  readonly cert: string
  readonly key: string
  /** For `localhost`, `127.0.0.1`, `::1` and the names given. */
  readonly server: (names?: ReadonlyArray<string>, validity?: Validity) => Pem
  readonly agent: (id: string, validity?: Validity) => Pem
  readonly operator: (commonName: string, validity?: Validity) => Pem
  /** For client authentication, of anybody. */
  readonly client: (subject: Subject, validity?: Validity) => Pem
  /** For a key made elsewhere, such as a host's ed25519 SSH key; answers the certificate alone. */
  readonly agentForKey: (id: string, publicKey: KeyObject, validity?: Validity) => string
}

export interface AuthorityOptions {
  readonly commonName: string
  /** Epoch milliseconds; certificates start five minutes before, as clocks differ. */
  readonly now: number
  /** What follows the machine id in an agent's common name. */
  readonly agentSuffix: string
}

const newKey = () => generateKeyPairSync("ec", { namedCurve: "P-256" })

const privatePem = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString()

/** Makes an authority with a new key. */
export function makeAuthority(options: AuthorityOptions): Authority {
  const usual: Validity = { notBefore: options.now - 300_000, notAfter: options.now + 30 * day }
  const root = newKey()
  const sign = (order: CertificateOrder, certificate?: X509Certificate): string => {
    const bytes = toBeSigned(order, { certificate, algorithm })
    return certificateOf(bytes, algorithm, signWith(root.privateKey, bytes))
  }
  const cert = sign({
    subject: { commonName: options.commonName },
    publicKey: root.publicKey,
    notBefore: usual.notBefore,
    notAfter: options.now + 365 * day,
    usage: "authority",
    names: []
  })
  const authority = new X509Certificate(cert)

  function issue(
    subject: Subject,
    usage: "client" | "server",
    names: ReadonlyArray<string>,
    validity: Validity
  ): Pem {
    const { privateKey, publicKey } = newKey()
    return {
      cert: sign({ subject, publicKey, usage, names, ...validity }, authority),
      key: privatePem(privateKey)
    }
  }

  const agentName = (id: string) => `agent-${id}.${options.agentSuffix}`
  return {
    cert,
    key: privatePem(root.privateKey),
    server: (names = [], validity = usual) =>
      issue({ commonName: "nixfleet control plane" }, "server", ["localhost", ...names, "127.0.0.1", "::1"], validity),
    agent: (id, validity = usual) => issue({ commonName: agentName(id) }, "client", [agentName(id)], validity),
    operator: (commonName, validity = usual) =>
      issue({ commonName, organizationalUnit: operatorUnit }, "client", [], validity),
    client: (subject, validity = usual) => issue(subject, "client", [], validity),
    agentForKey: (id, publicKey, validity = usual) =>
      sign(
        { subject: { commonName: agentName(id) }, publicKey, usage: "client", names: [agentName(id)], ...validity },
        authority
      )
  }
}

/** Writes `<name>.pem` and `<name>-key.pem` (mode 0600) into `directory`, which is made when it is missing. */
export function writePem(directory: string, name: string, { cert, key }: Pem): PemFiles {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const files = { cert: join(directory, `${name}.pem`), key: join(directory, `${name}-key.pem`) }
  writeFileSync(files.cert, cert)
  writeFileSync(files.key, key, { mode: 0o600 })
  // The mode above counts only when the file is new.
  chmodSync(files.key, 0o600)
  return files
}
