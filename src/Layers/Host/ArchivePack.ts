/**
 * Packs a directory into a closure archive: `nixfleet closure pack`. The same files give the same bytes on every machine
 * and at every time: entries are sorted, owners are not recorded, times are fixed, a mode says only "executable or not",
 * hard links become files of their own. What a host would refuse (`Archive.ts`) is refused here, before it is published.
 */
import { DateTime, Effect, Schema } from "effect"
import { createHash } from "node:crypto"
import { lstat, mkdir, open, readdir, readlink, realpath, rename, rm } from "node:fs/promises"
import { join, relative, resolve } from "node:path"
import { WriteEntry } from "tar"
import {
  type ArchiveEntry,
  type ArchiveLimits,
  archiveTime,
  ArchiveTree,
  closureOf,
  defaultArchiveLimits,
  isArchiveName
} from "./Archive.ts"
import { errorText, syncPath, temporaryBeside } from "./DurableFiles.ts"

/** Why a directory is not packed. */
export class ClosurePackError extends Schema.TaggedError<ClosurePackError>()("ClosurePackError", {
  directory: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `cannot pack ${this.directory}: ${this.problem}`
  }
}

/** Two empty blocks end a tar. */
const endOfArchive = Buffer.alloc(1024)
const archiveDate = DateTime.toDate(DateTime.makeUnsafe(archiveTime * 1000))
const executableBits = 0o111

/** By bytes, as a sort independent of the locale and of surrogate pairs. */
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

async function entryAt(root: string, path: string): Promise<ArchiveEntry> {
  const stat = await lstat(join(root, path))
  if (stat.isDirectory()) return { kind: "directory", path }
  if (stat.isFile()) return { kind: "file", path, executable: (stat.mode & executableBits) !== 0 }
  if (stat.isSymbolicLink()) return { kind: "symlink", path, target: await readlink(join(root, path)) }
  throw new Error(`${JSON.stringify(path)} is neither a file, a directory nor a symbolic link`)
}

/** Every entry below `root`, a directory before what is in it. */
async function listTree(root: string, limits: ArchiveLimits): Promise<ReadonlyArray<ArchiveEntry>> {
  const tree = new ArchiveTree(limits)
  const entries: Array<ArchiveEntry> = []
  const visit = async (directory: string): Promise<void> => {
    for (const name of (await readdir(join(root, directory))).toSorted(byBytes)) {
      const entry = await entryAt(root, directory === "" ? name : `${directory}/${name}`)
      const problem = tree.add(entry)
      if (problem !== undefined) throw new Error(problem)
      entries.push(entry)
      if (entry.kind === "directory") await visit(entry.path)
    }
  }
  await visit("")
  const missing = tree.complete()
  if (missing !== undefined) throw new Error(missing)
  return entries
}

/** The tar blocks of one entry. A fresh `linkCache` each time: no entry can become a hard link to another. */
function blocksOf(root: string, entry: ArchiveEntry): AsyncIterable<Buffer> {
  const executable = entry.kind === "file" && entry.executable
  return new WriteEntry(entry.path, {
    cwd: root,
    portable: true,
    strict: true,
    mtime: archiveDate,
    linkCache: new Map(),
    statCache: new Map(),
    onWriteEntry: (writing) => {
      if (writing.stat !== undefined) writing.stat.mode = entry.kind === "directory" || executable ? 0o755 : 0o644
    }
  })
}

async function writeArchive(root: string, file: string, limits: ArchiveLimits): Promise<string> {
  const entries = await listTree(root, limits)
  const hash = createHash("sha256")
  const handle = await open(file, "wx", 0o644)
  let bytes = 0
  const write = async (block: Buffer): Promise<void> => {
    bytes += block.length
    if (bytes > limits.maxBytes) throw new Error(`larger than ${limits.maxBytes} bytes`)
    hash.update(block)
    await handle.writeFile(block)
  }
  try {
    for (const entry of entries) {
      for await (const block of blocksOf(root, entry)) await write(block)
    }
    await write(endOfArchive)
    await handle.sync()
  } finally {
    await handle.close()
  }
  return hash.digest("hex")
}

/** An archive inside of what it packs would be part of the next one. */
function refuseInside(root: string, out: string): void {
  const below = relative(root, out)
  if (below !== ".." && !below.startsWith("../")) throw new Error(`the output directory ${out} lies inside it`)
}

async function pack(directory: string, name: string, outDirectory: string, limits: ArchiveLimits): Promise<string> {
  if (!isArchiveName(name)) {
    throw new Error(`${JSON.stringify(name)} is not a name: 1 to 211 letters, digits and + . _ ? = -`)
  }
  const root = await realpath(directory)
  refuseInside(root, resolve(outDirectory))
  await mkdir(outDirectory, { recursive: true })
  const out = await realpath(outDirectory)
  refuseInside(root, out)
  const temporary = temporaryBeside(join(out, name))
  try {
    const closure = closureOf(await writeArchive(root, temporary, limits), name)
    await rename(temporary, join(out, `${closure}.tar`))
    await syncPath(out)
    return closure
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** Writes `<outDirectory>/<closure>.tar` and answers the closure's name. */
export const packClosure = (
  directory: string,
  name: string,
  outDirectory: string,
  limits: ArchiveLimits = defaultArchiveLimits
): Effect.Effect<string, ClosurePackError> =>
  Effect.tryPromise({
    try: () => pack(directory, name, outDirectory, limits),
    catch: (error) => new ClosurePackError({ directory, problem: errorText(error) })
  })
