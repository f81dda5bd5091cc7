/** What must stay secret, in every form in which it could be written down, and where it was written down all the same. */
import { createPrivateKey } from "node:crypto"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"

export interface Secret {
  readonly name: string
  /** Texts of which none may be found, each byte a character. */
  readonly forms: ReadonlyArray<string>
}

/** As they are, and as texts carry bytes. */
export function secretBytes(name: string, bytes: Uint8Array): Secret {
  const buffer = Buffer.from(bytes)
  const base64 = buffer.toString("base64").replace(/=+$/, "")
  return { name, forms: [buffer.toString("latin1"), buffer.toString("hex"), base64, buffer.toString("base64url")] }
}

/** The lines of its body, which logs and JSON may have joined, and the number that they hold. */
export function secretPem(name: string, pem: string): Secret {
  const body = pem.split("\n").filter((line) => line !== "" && !line.startsWith("-----"))
  const number = pem.includes("OPENSSH") ? undefined : createPrivateKey(pem).export({ format: "jwk" }).d
  return {
    name,
    forms: [...body, ...number === undefined ? [] : secretBytes(name, Buffer.from(number, "base64url")).forms]
      .filter((form) => form.length >= 16)
  }
}

/** Whoever's it is. */
export const anyPrivateKey: Secret = { name: "a private key", forms: ["PRIVATE KEY-----"] }

/** Every file below a directory, ascending. */
export const filesBelow = (directory: string): ReadonlyArray<string> =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .flatMap((entry) => entry.isFile() ? [join(entry.parentPath, entry.name)] : []).toSorted()

/** Names of the secrets that are in a text whose characters are bytes. */
export const secretsIn = (text: string, secrets: ReadonlyArray<Secret>): ReadonlyArray<string> =>
  secrets.filter(({ forms }) => forms.some((form) => text.includes(form))).map(({ name }) => name)

/** `<file>: <secret>` for each that a file holds, and `<file>: mode` for each of `named` that others may read. */
export function leaksBelow(
  directory: string,
  secrets: ReadonlyArray<Secret>,
  named: ReadonlyArray<string>
): ReadonlyArray<string> {
  return [
    ...filesBelow(directory).filter((file) => !named.includes(file)).flatMap((file) =>
      secretsIn(readFileSync(file, "latin1"), secrets).map((name) => `${file}: ${name}`)
    ),
    ...named.flatMap((file) => {
      const mode = statSync(file).mode & 0o777
      return mode === 0o600 ? [] : [`${file}: mode ${mode.toString(8)}`]
    })
  ]
}
