/**
 * A throw-away certificate authority for the demo and the tests: P-256 keys, certificates as the control plane expects
 * them (an agent is `CN=agent-<id>.<suffix>`, every other name is an operator), PEM files with keys of mode 0600.
 * Not for real fleets: the authority's key lives in memory only and dies with the process.
 */
import "./reflectMetadata.ts"
import * as x509 from "@peculiar/x509"
import { KeyObject, webcrypto } from "node:crypto"
import { chmodSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }
const clientAuth = "1.3.6.1.5.5.7.3.2"
const serverAuth = "1.3.6.1.5.5.7.3.1"
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
  /** The authority's own certificate, PEM. */
  readonly cert: string
  /** For `localhost`, `127.0.0.1`, `::1` and the names given. */
  readonly server: (names?: ReadonlyArray<string>, validity?: Validity) => Promise<Pem>
  readonly agent: (id: string, validity?: Validity) => Promise<Pem>
  readonly operator: (commonName: string, validity?: Validity) => Promise<Pem>
  /** For a key made elsewhere, such as a host's ed25519 SSH key; answers the certificate alone. */
  readonly agentForKey: (id: string, publicKey: KeyObject, validity?: Validity) => Promise<string>
}

export interface AuthorityOptions {
  readonly commonName: string
  /** Epoch milliseconds; certificates start five minutes before, as clocks differ. */
  readonly now: number
  /** What follows the machine id in an agent's common name. */
  readonly agentSuffix: string
}

const pem = (text: string) => text.endsWith("\n") ? text : `${text}\n`

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", key)
  return pem(x509.PemConverter.encode(pkcs8, "PRIVATE KEY"))
}

/** Makes an authority with a new key. */
export async function makeAuthority(options: AuthorityOptions): Promise<Authority> {
  const usual: Validity = { notBefore: options.now - 300_000, notAfter: options.now + 30 * day }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${options.commonName}`,
    notBefore: new Date(usual.notBefore),
    notAfter: new Date(options.now + 365 * day),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)
    ]
  })

  async function sign(
    commonName: string,
    publicKey: webcrypto.CryptoKey,
    usage: string,
    names: Array<{ readonly type: "dns" | "ip"; readonly value: string }>,
    validity: Validity
  ): Promise<string> {
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${commonName}`,
      issuer: root.subject,
      notBefore: new Date(validity.notBefore),
      notAfter: new Date(validity.notAfter),
      signingAlgorithm: algorithm,
      publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([usage]),
        ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
        await x509.AuthorityKeyIdentifierExtension.create(root)
      ]
    })
    return pem(certificate.toString("pem"))
  }

  async function issue(
    commonName: string,
    usage: string,
    names: Array<{ readonly type: "dns" | "ip"; readonly value: string }>,
    validity: Validity
  ): Promise<Pem> {
    const pair = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
    return {
      cert: await sign(commonName, pair.publicKey, usage, names, validity),
      key: await privatePem(pair.privateKey)
    }
  }

  const agentName = (id: string) => `agent-${id}.${options.agentSuffix}`
  return {
    cert: pem(root.toString("pem")),
    server: (names = [], validity = usual) =>
      issue("nixfleet control plane", serverAuth, [
        ...["localhost", ...names].map((value) => ({ type: "dns" as const, value })),
        { type: "ip", value: "127.0.0.1" },
        { type: "ip", value: "::1" }
      ], validity),
    agent: (id, validity = usual) =>
      issue(agentName(id), clientAuth, [{ type: "dns", value: agentName(id) }], validity),
    operator: (commonName, validity = usual) => issue(commonName, clientAuth, [], validity),
    agentForKey: async (id, publicKey, validity = usual) => {
      const spki = publicKey.export({ type: "spki", format: "der" })
      const imported = await webcrypto.subtle.importKey("spki", spki, { name: "Ed25519" }, true, ["verify"])
      return sign(agentName(id), imported, clientAuth, [{ type: "dns", value: agentName(id) }], validity)
    }
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
