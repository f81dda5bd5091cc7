/**
 * Unpacks a closure archive while it is being fetched, hashing the bytes as they pass. Owns the directory it is given
 * until it returns; the caller makes that directory valid or deletes it. Nothing is written for an entry before the
 * rules of `Archive.ts` have taken it.
 *
 * Failures: `Corrupt`, the bytes are not those that the name promises (a bad copy; another fetch may help); `Untrusted`,
 * they are, and this host refuses them, or they are more than it takes. Errors of the disk and of the source are thrown.
 */
import { createHash } from "node:crypto"
import { constants } from "node:fs"
import { chmod, type FileHandle, mkdir, open, symlink } from "node:fs/promises"
import { join } from "node:path"
import { Parser, type ReadEntry } from "tar"
import { type ArchiveEntry, type ArchiveLimits, ArchiveTree } from "./Archive.ts"
import { errorText, syncPath } from "./DurableFiles.ts"

export type UnpackResult =
  | { readonly _tag: "Ok"; readonly sha256: string }
  | { readonly _tag: "Corrupt"; readonly detail: string }
  | { readonly _tag: "Untrusted"; readonly detail: string }

const blockBytes = 512
/** Where the header of every modern tar says what it is. */
const magic = { at: 257, text: "ustar" }

const fileMode = 0o444
const executableMode = 0o555
const directoryMode = 0o755

/** As many as Node has threads for files. */
const parallelFlushes = 4

/** What one chunk of the tar asks the disk to do, in order. */
type Write =
  | { readonly _tag: "Open"; readonly entry: ArchiveEntry }
  | { readonly _tag: "Data"; readonly data: Uint8Array }
  | { readonly _tag: "Close"; readonly size: number }

/** The entry as the rules see it, or what makes it no entry of ours. */
function entryOf(entry: ReadEntry): ArchiveEntry | string {
  const named = JSON.stringify(entry.path)
  if (entry.globalExtended !== undefined) return "a global extended header"
  switch (entry.type) {
    case "File":
    case "OldFile":
      return { kind: "file", path: entry.path, executable: ((entry.mode ?? 0) & 0o111) !== 0 }
    case "Directory":
      return { kind: "directory", path: entry.path.endsWith("/") ? entry.path.slice(0, -1) : entry.path }
    case "SymbolicLink":
      return entry.size === 0
        ? { kind: "symlink", path: entry.path, target: entry.linkpath ?? "" }
        : `symbolic link ${named} with content`
    case "Link":
      return `hard link ${named}`
    case "CharacterDevice":
    case "BlockDevice":
      return `device node ${named}`
    case "FIFO":
      return `fifo ${named}`
    default:
      return `entry ${named} of the type ${entry.type}`
  }
}

/**
 * The tar parser with the rules around it, synchronous: each chunk gives the writes that it completes, and entries always
 * flow, so the parser never holds more than one header and there is no back-pressure to get wrong.
 */
class ArchiveReader {
  readonly #parser: Parser
  readonly #tree: ArchiveTree
  #writes: Array<Write> = []
  #head: Buffer | undefined = Buffer.alloc(0)
  #sawEnd = false
  /** Why the archive is refused; nothing is parsed after it. */
  problem: string | undefined

  constructor(limits: ArchiveLimits) {
    this.#tree = new ArchiveTree(limits)
    this.#parser = new Parser({ strict: true })
    this.#parser.on("entry", (entry: ReadEntry) => this.#onEntry(entry))
    this.#parser.on("ignoredEntry", (entry: ReadEntry) => this.#refuse(`entry of the type ${entry.type}`))
    this.#parser.on("error", (error: unknown) => this.#refuse(`not a well-formed tar: ${errorText(error)}`))
    this.#parser.on("eof", () => {
      this.#sawEnd = true
    })
  }

  feed(chunk: Buffer): ReadonlyArray<Write> {
    if (this.problem !== undefined) return []
    if (this.#head === undefined) {
      this.#parser.write(chunk)
    } else {
      // The first block is looked at before the parser sees it: it would unpack a compressed stream by itself.
      this.#head = Buffer.concat([this.#head, chunk])
      if (this.#head.length < blockBytes) return []
      if (this.#head.toString("latin1", magic.at, magic.at + magic.text.length) !== magic.text) {
        this.#refuse("not an uncompressed tar")
        return []
      }
      this.#parser.write(this.#head)
      this.#head = undefined
    }
    const writes = this.#writes
    this.#writes = []
    return writes
  }

  /** After the last chunk. */
  end(): void {
    if (this.problem !== undefined) return
    if (this.#head !== undefined) return this.#refuse("not a tar: shorter than one block")
    this.#parser.end()
    if (!this.#sawEnd) this.#refuse("truncated: the end of the archive is missing")
    const missing = this.#tree.complete()
    if (missing !== undefined) this.#refuse(missing)
  }

  #refuse(problem: string): void {
    this.problem ??= problem
  }

  #onEntry(readEntry: ReadEntry): void {
    const entry = this.problem === undefined ? entryOf(readEntry) : "after a refusal"
    const problem = typeof entry === "string" ? entry : this.#tree.add(entry)
    if (problem !== undefined) this.#refuse(problem)
    if (problem === undefined && typeof entry !== "string") {
      this.#writes.push({ _tag: "Open", entry })
      readEntry.on("data", (data) => this.#writes.push({ _tag: "Data", data }))
      readEntry.on("end", () => this.#writes.push({ _tag: "Close", size: readEntry.size }))
    }
    readEntry.resume()
  }
}

/** Carries out the writes below one directory. */
class TreeWriter {
  readonly #root: string
  readonly #paths: Array<string> = []
  readonly #directories: Array<string>
  #file: FileHandle | undefined
  #written = 0

  constructor(root: string) {
    this.#root = root
    this.#directories = [root]
  }

  async write(write: Write): Promise<void> {
    switch (write._tag) {
      case "Open":
        return this.#open(write.entry)
      case "Data":
        this.#written += write.data.length
        await this.#file?.writeFile(write.data)
        return
      case "Close":
        return this.#close(write.size)
    }
  }

  /** Flushes everything; the names in a directory after the files that they name. */
  async sync(): Promise<void> {
    const waiting = this.#paths.values()
    // Together, because a journalling file system then commits many of them at once.
    await Promise.all(Array.from({ length: parallelFlushes }, async () => {
      for (const path of waiting) await syncPath(path)
    }))
    for (const path of this.#directories.toReversed()) {
      await chmod(path, directoryMode)
      await syncPath(path)
    }
  }

  async abandon(): Promise<void> {
    await this.#file?.close()
    this.#file = undefined
  }

  async #open(entry: ArchiveEntry): Promise<void> {
    const path = join(this.#root, entry.path)
    switch (entry.kind) {
      case "directory":
        await mkdir(path, 0o700)
        this.#directories.push(path)
        return
      case "symlink":
        return symlink(entry.target, path)
      case "file":
        this.#written = 0
        this.#file = await open(
          path,
          constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
          0o600
        )
        // Not by the mode of `open`: the umask would take part in it.
        await this.#file.chmod(entry.executable ? executableMode : fileMode)
        this.#paths.push(path)
    }
  }

  async #close(size: number): Promise<void> {
    if (this.#file === undefined) return
    await this.abandon()
    if (this.#written !== size) throw new Error(`wrote ${this.#written} bytes of a file of ${size}`)
  }
}

/**
 * Unpacks the tar in `chunks` into the empty directory `into`, whose SHA-256 must start with `digest`; durable when `Ok`.
 * After a refusal it reads on (bounded by the limits) to learn whether the archive is at fault or only this copy of it.
 */
export async function unpackArchive(
  chunks: AsyncIterable<Buffer>,
  into: string,
  digest: string,
  limits: ArchiveLimits,
  signal: AbortSignal
): Promise<UnpackResult> {
  const hash = createHash("sha256")
  const reader = new ArchiveReader(limits)
  const writer = new TreeWriter(into)
  let bytes = 0
  try {
    for await (const chunk of chunks) {
      signal.throwIfAborted()
      bytes += chunk.length
      if (bytes > limits.maxBytes) return { _tag: "Untrusted", detail: `larger than ${limits.maxBytes} bytes` }
      hash.update(chunk)
      for (const write of reader.feed(chunk)) await writer.write(write)
    }
    reader.end()
    const sha256 = hash.digest("hex")
    if (!sha256.startsWith(digest)) {
      const detail = `the SHA-256 of its ${bytes} bytes starts with ${sha256.slice(0, digest.length)}`
      return { _tag: "Corrupt", detail }
    }
    if (reader.problem !== undefined) return { _tag: "Untrusted", detail: reader.problem }
    signal.throwIfAborted()
    await writer.sync()
    return { _tag: "Ok", sha256 }
  } finally {
    await writer.abandon()
  }
}
