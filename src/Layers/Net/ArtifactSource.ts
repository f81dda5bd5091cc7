/**
 * Where releases are published: files `X` and `X.sig` in a directory or below an https address (protocol.md §8). Owns fetching,
 * limits and the memory of what was seen last, so that an unchanged artifact costs a `stat` or a 304 and is the very same
 * object as before (D15). Trusts nothing: signatures are the caller's matter, and so is what to do when both files do not
 * belong together because a release was being written.
 *
 * Failures: `artifact-absent` when a file is not there (yet), `artifact-unreachable` for everything else, worth another try.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { statSync } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"
import { readSmallFile } from "../Disk/SmallFile.ts"

/** An artifact and its signature as received. The same object as long as neither has changed. */
export interface FetchedArtifact {
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
}

export class ArtifactSourceError extends Schema.TaggedError<ArtifactSourceError>()("ArtifactSourceError", {
  reason: Schema.Literals(["artifact-absent", "artifact-unreachable", "artifact-too-large"]),
  message: Schema.String
}) {}

/** Largest artifact: a manifest of 50,000 hosts. */
export const artifactMaxBytes = 16 * 1_048_576
/** A signature has 64 bytes; more is read only to say so. */
const signatureMaxBytes = 1_024
/** Time-out of one request, milliseconds (control-plane.md §2.5). */
const requestTimeoutMs = 15_000

export interface HttpSourceConfig {
  /** Names are appended to it. */
  readonly baseUrl: string
  /** Holds a bearer token; read for each request. Never sent over plain http. */
  readonly tokenFile: string | undefined
}

export class ArtifactSource extends Context.Service<ArtifactSource, {
  /** For messages. */
  readonly origin: string
  /** `name` is a relative path such as `rollouts/stable@0f3c.json`; the caller vouches for its shape. */
  readonly fetch: (name: string) => Effect.Effect<FetchedArtifact, ArtifactSourceError>
}>()("nixfleet/Layers/Net/ArtifactSource") {
  static readonly layerDirectory = (directory: string): Layer.Layer<ArtifactSource> =>
    Layer.sync(ArtifactSource, () => {
      const seen = new Map<string, Seen>()
      return ArtifactSource.of({
        origin: directory,
        fetch: (name) => remembering(seen, name, (previous) => fetchFiles(join(directory, name), previous))
      })
    })

  static readonly layerHttp = (config: HttpSourceConfig): Layer.Layer<ArtifactSource> =>
    Layer.sync(ArtifactSource, () => {
      const seen = new Map<string, Seen>()
      const base = config.baseUrl.replace(/\/*$/, "/")
      return ArtifactSource.of({
        origin: config.baseUrl,
        fetch: (name) => remembering(seen, name, (previous) => fetchUrls(`${base}${name}`, config, previous))
      })
    })

  /** `files` may be changed at any time; an absent name is an absent artifact. */
  static readonly layerMemory = (files: ReadonlyMap<string, FetchedArtifact>): Layer.Layer<ArtifactSource> =>
    Layer.succeed(
      ArtifactSource,
      ArtifactSource.of({
        origin: "memory",
        fetch: (name) =>
          Effect.suspend(() => {
            const found = files.get(name)
            return found === undefined ? absent(`${name} is not published`) : Effect.succeed(found)
          })
      })
    )
}

/** What came last under a name, and the marks by which the origin can tell that it is still the same. */
interface Seen {
  readonly fetched: FetchedArtifact
  readonly marks: readonly [string, string]
}

/** Names not fetched for this many others are forgotten: old rollouts must not pile up. */
const seenLimit = 256

const absent = (message: string) => Effect.fail(new ArtifactSourceError({ reason: "artifact-absent", message }))
const unreachable = (message: string) => new ArtifactSourceError({ reason: "artifact-unreachable", message })
const tooLarge = (what: string, limit: number) =>
  new ArtifactSourceError({ reason: "artifact-too-large", message: `${what} is larger than ${limit} bytes` })
const describe = (cause: unknown) => cause instanceof Error ? cause.message : String(cause)

const remembering = (
  seen: Map<string, Seen>,
  name: string,
  fetch: (previous: Seen | undefined) => Effect.Effect<Seen, ArtifactSourceError>
): Effect.Effect<FetchedArtifact, ArtifactSourceError> =>
  Effect.suspend(() => fetch(seen.get(name))).pipe(Effect.map((found) => {
    seen.delete(name)
    seen.set(name, found)
    const oldest = seen.size > seenLimit ? seen.keys().next().value : undefined
    if (oldest !== undefined) seen.delete(oldest)
    return found.fetched
  }))

// ---- files

const fetchFiles = (path: string, previous: Seen | undefined): Effect.Effect<Seen, ArtifactSourceError> =>
  Effect.gen(function*() {
    const marks = [yield* fileMark(path), yield* fileMark(`${path}.sig`)] as const
    if (previous?.marks[0] === marks[0] && previous.marks[1] === marks[1]) return previous
    const bytes = yield* readLimited(path, artifactMaxBytes)
    const signature = yield* readLimited(`${path}.sig`, signatureMaxBytes)
    return { fetched: { bytes, signature }, marks }
  })

/** Changes whenever the file is written or replaced. */
const fileMark = (path: string): Effect.Effect<string, ArtifactSourceError> =>
  Effect.try({
    try: () => statSync(path, { throwIfNoEntry: false, bigint: true }),
    catch: (cause) => unreachable(`cannot look at ${path}: ${describe(cause)}`)
  }).pipe(Effect.flatMap((stat) =>
    stat === undefined
      ? absent(`${path} does not exist`)
      : Effect.succeed(`${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`)
  ))

/** Reads no more than the file's size at its opening: a file that grows meanwhile fails its signature and is read again. */
const readLimited = (path: string, limit: number): Effect.Effect<Uint8Array, ArtifactSourceError> =>
  Effect.tryPromise({
    try: async () => {
      await using file = await open(path)
      const { size } = await file.stat()
      if (size > limit) throw tooLarge(path, limit)
      const bytes = new Uint8Array(size)
      let filled = 0
      while (filled < size) {
        const { bytesRead } = await file.read(bytes, filled, size - filled, filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return bytes.subarray(0, filled)
    },
    catch: (cause) =>
      cause instanceof ArtifactSourceError ? cause : unreachable(`cannot read ${path}: ${describe(cause)}`)
  })

// ---- https

const fetchUrls = (
  url: string,
  config: HttpSourceConfig,
  previous: Seen | undefined
): Effect.Effect<Seen, ArtifactSourceError> =>
  Effect.gen(function*() {
    const authorization = yield* bearer(url, config.tokenFile)
    const get = (target: string, limit: number, mark: string | undefined) =>
      Effect.tryPromise({
        try: (signal) => request(target, limit, authorization, mark, signal),
        catch: (cause) =>
          cause instanceof ArtifactSourceError ? cause : unreachable(`GET ${target}: ${describe(cause)}`)
      }).pipe(Effect.timeoutOrElse({
        duration: requestTimeoutMs,
        orElse: () => Effect.fail(unreachable(`GET ${target}: no complete answer within ${requestTimeoutMs} ms`))
      }))
    const artifact = yield* get(url, artifactMaxBytes, previous?.marks[0])
    const signature = yield* get(`${url}.sig`, signatureMaxBytes, previous?.marks[1])
    if (previous !== undefined && artifact === "unchanged" && signature === "unchanged") return previous
    return {
      fetched: {
        bytes: artifact === "unchanged" ? previous?.fetched.bytes ?? new Uint8Array() : artifact.bytes,
        signature: signature === "unchanged" ? previous?.fetched.signature ?? new Uint8Array() : signature.bytes
      },
      marks: [
        artifact === "unchanged" ? previous?.marks[0] ?? "" : artifact.mark,
        signature === "unchanged" ? previous?.marks[1] ?? "" : signature.mark
      ]
    }
  })

const bearer = (
  url: string,
  tokenFile: string | undefined
): Effect.Effect<Record<string, string>, ArtifactSourceError> => {
  if (tokenFile === undefined) return Effect.succeed({})
  if (!url.startsWith("https://")) return Effect.fail(unreachable(`${url}: a token is not sent over plain http`))
  return Effect.try({
    try: () => ({ authorization: `Bearer ${readSmallFile(tokenFile).toString().trim()}` }),
    catch: (cause) => unreachable(`cannot read the token file ${tokenFile}: ${describe(cause)}`)
  })
}

type Answer = "unchanged" | { readonly bytes: Uint8Array; readonly mark: string }

/** Rejects with what went wrong. Redirects are refused: a token must not follow one. */
async function request(
  url: string,
  limit: number,
  authorization: Record<string, string>,
  mark: string | undefined,
  signal: AbortSignal
): Promise<Answer> {
  const headers = { ...authorization, ...(mark === undefined || mark === "" ? {} : { "if-none-match": mark }) }
  const response = await fetch(url, { headers, signal, redirect: "error" })
  if (response.status === 304 && mark !== undefined) return "unchanged"
  if (response.status === 404) {
    throw new ArtifactSourceError({ reason: "artifact-absent", message: `GET ${url}: 404` })
  }
  if (response.status !== 200) throw unreachable(`GET ${url}: status ${response.status}`)
  const chunks: Array<Uint8Array> = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > limit) throw tooLarge(url, limit)
    chunks.push(chunk)
  }
  return { bytes: Uint8Array.from(Buffer.concat(chunks)), mark: response.headers.get("etag") ?? "" }
}
