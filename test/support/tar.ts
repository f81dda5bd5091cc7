/** Tars that no packer of ours would write, block by block. */
import { createHash } from "node:crypto"
import { Header, Pax } from "tar"

export interface TarEntry {
  readonly path: string
  readonly type?:
    | "File"
    | "Directory"
    | "SymbolicLink"
    | "Link"
    | "CharacterDevice"
    | "BlockDevice"
    | "FIFO"
    | "ContiguousFile"
  readonly target?: string
  readonly content?: string
  readonly mode?: number
  /** Also say the path (and target) in an extended header, as tars with long paths do. */
  readonly extended?: boolean
}

const block = 512

export function tarEntry(entry: TarEntry): Buffer {
  const content = Buffer.from(entry.content ?? "")
  const header = new Header({
    path: entry.path,
    type: entry.type ?? "File",
    size: content.length,
    mode: entry.mode ?? 0o644,
    ...(entry.target === undefined ? {} : { linkpath: entry.target })
  })
  header.encode()
  const pax = entry.extended === true
    ? new Pax({ path: entry.path, ...(entry.target === undefined ? {} : { linkpath: entry.target }) }).encode()
    : Buffer.alloc(0)
  const padding = Buffer.alloc((block - (content.length % block)) % block)
  return Buffer.concat([pax, header.block!, content, padding])
}

export const endOfTar = Buffer.alloc(2 * block)

/** What every accepted archive has. */
export const minimalEntries: ReadonlyArray<TarEntry> = [
  { path: "bin/", type: "Directory", mode: 0o755 },
  { path: "bin/switch-to-configuration", content: "#!/bin/sh\n", mode: 0o755 }
]

export const tarOf = (entries: ReadonlyArray<TarEntry>): Buffer => Buffer.concat([...entries.map(tarEntry), endOfTar])

/** The name that these bytes have as a closure. */
export const nameOf = (bytes: Uint8Array, name = "closure"): string =>
  `${createHash("sha256").update(bytes).digest("hex").slice(0, 40)}-${name}`
