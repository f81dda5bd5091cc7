/**
 * What a closure archive is: its name, its limits, and the rules that each entry must keep. One place for both sides:
 * the packer refuses what the unpacker would refuse. Pure; `ArchivePack.ts` writes archives, `ArchiveUnpack.ts` reads them.
 *
 * An archive is an uncompressed tar of directories, regular files and relative symbolic links, each directory before
 * what is in it. Its closure is called `<first 40 hex digits of the tar's SHA-256>-<name>`: 160 bits, as Nix names have.
 */

/** Bounds of one archive; what is beyond them is refused. */
export interface ArchiveLimits {
  /** Bytes of the tar. There is no compression, so the unpacked files are never larger. */
  readonly maxBytes: number
  readonly maxEntries: number
  /** UTF-8 bytes of one path, and of one link target. */
  readonly maxPathBytes: number
}

/** 2 GiB holds a whole system; the counts keep one archive from using up inodes and memory (a path costs about 200 bytes). */
export const defaultArchiveLimits: ArchiveLimits = { maxBytes: 2_147_483_648, maxEntries: 200_000, maxPathBytes: 1024 }

/** NAME_MAX of every common file system. */
const maxSegmentBytes = 255

/** What is run to make a closure the running system; an archive without it could never be activated. */
export const switchScript = "bin/switch-to-configuration"

/** Seconds since the epoch of every file in an archive: a fixed time, and not 0, which some tools take for "unset". */
export const archiveTime = 1

const digestLength = 40
const closureShape = /^([0-9a-f]{40})-([0-9A-Za-z+._?=-]{1,211})$/
const nameShape = /^[0-9A-Za-z+._?=-]{1,211}$/

/** Whether `name` can be the part after the digest. */
export const isArchiveName = (name: string): boolean => nameShape.test(name)

/** The closure name of a tar with this SHA-256 (hex). */
export const closureOf = (sha256: string, name: string): string => `${sha256.slice(0, digestLength)}-${name}`

/** The first 40 hex digits that a closure's tar must have; `undefined` when the name is not one of an archive. */
export const digestOf = (closure: string): string | undefined => closureShape.exec(closure)?.[1]

export type ArchiveEntry =
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "file"; readonly path: string; readonly executable: boolean }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }

const bytes = (text: string): number => Buffer.byteLength(text, "utf8")
const quoted = (text: string): string => JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)

/** What is wrong with the spelling of a path inside an archive. U+FFFD stands for bytes that are not UTF-8. */
function pathProblem(path: string, maxPathBytes: number): string | undefined {
  if (path === "") return "an entry without a path"
  if (path.startsWith("/")) return `absolute path ${quoted(path)}`
  if (bytes(path) > maxPathBytes) return `path longer than ${maxPathBytes} bytes: ${quoted(path)}`
  if (/[\u0000-\u001f\u007f\ufffd]/.test(path)) return `path with control characters or broken UTF-8: ${quoted(path)}`
  for (const segment of path.split("/")) {
    if (segment === "..") return `path that leaves the archive: ${quoted(path)}`
    if (segment === "" || segment === ".") return `path that is not in its plain form: ${quoted(path)}`
    if (bytes(segment) > maxSegmentBytes) return `name longer than ${maxSegmentBytes} bytes in ${quoted(path)}`
  }
  return undefined
}

/**
 * What is wrong with a link's target. `..` may stand only in front, at most as often as the link is deep: the link's own
 * directory is a real one, so these steps are exact; a `..` after a name could go through another link and out.
 */
function targetProblem(path: string, target: string, maxPathBytes: number): string | undefined {
  const link = `symbolic link ${quoted(path)}`
  if (target === "") return `${link} without a target`
  if (target.startsWith("/")) return `${link} with the absolute target ${quoted(target)}`
  if (bytes(target) > maxPathBytes) return `${link} with a target longer than ${maxPathBytes} bytes`
  if (/[\u0000-\u001f\u007f\ufffd]/.test(target)) return `${link} with control characters or broken UTF-8 in its target`
  const segments = target.split("/")
  const up = segments.findIndex((segment) => segment !== "..")
  const upwards = up < 0 ? segments.length : up
  const depth = path.split("/").length - 1
  if (upwards > depth || segments.slice(upwards).includes("..")) {
    return `${link} whose target ${quoted(target)} can leave the archive`
  }
  return undefined
}

/** The entries seen so far, in order. Refuses the first one that breaks a rule; nothing may be written before it is added. */
export class ArchiveTree {
  readonly #limits: ArchiveLimits
  readonly #kinds = new Map<string, ArchiveEntry["kind"]>()
  #canSwitch = false

  constructor(limits: ArchiveLimits) {
    this.#limits = limits
  }

  /** Takes the next entry; answers what is wrong with it, or `undefined`. */
  add(entry: ArchiveEntry): string | undefined {
    const { maxEntries, maxPathBytes } = this.#limits
    const problem = pathProblem(entry.path, maxPathBytes) ?? this.#parentProblem(entry.path) ??
      (entry.kind === "symlink" ? targetProblem(entry.path, entry.target, maxPathBytes) : undefined)
    if (problem !== undefined) return problem
    if (this.#kinds.has(entry.path)) return `duplicate entry ${quoted(entry.path)}`
    if (this.#kinds.size >= maxEntries) return `more than ${maxEntries} entries`
    this.#kinds.set(entry.path, entry.kind)
    if (entry.path === switchScript) {
      this.#canSwitch = entry.kind === "symlink" || (entry.kind === "file" && entry.executable)
    }
    return undefined
  }

  /** After the last entry: what is missing, or `undefined`. */
  complete(): string | undefined {
    return this.#canSwitch ? undefined : `no executable ${switchScript}`
  }

  #parentProblem(path: string): string | undefined {
    const slash = path.lastIndexOf("/")
    if (slash < 0) return undefined
    const parent = path.slice(0, slash)
    switch (this.#kinds.get(parent)) {
      case "directory":
        return undefined
      case "symlink":
        return `entry ${quoted(path)} goes through the symbolic link ${quoted(parent)}`
      case "file":
        return `entry ${quoted(path)} lies in ${quoted(parent)}, which is a file`
      case undefined:
        return this.#parentProblem(parent) ?? `entry ${quoted(path)} comes before its directory`
    }
  }
}
