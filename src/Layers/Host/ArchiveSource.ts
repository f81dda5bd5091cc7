/**
 * Where archives come from: a directory, or an HTTP(S) address below which `<closure>.tar` is. Owns the open file or
 * connection while it is read. Redirects are not followed; what arrives is trusted only by its hash.
 *
 * Failures, as the outcome of the realisation they end (nix.md §3): `Absent`, the source has no such archive or will not
 * give it to us; `Transient`, it could not be reached, broke off, stalled, or answered 408, 425, 429 or 5xx.
 */
import { once } from "node:events"
import { constants } from "node:fs"
import { open } from "node:fs/promises"
import { get as httpGet, IncomingMessage } from "node:http"
import { get as httpsGet } from "node:https"
import { join } from "node:path"
import { errorCode } from "../Disk/AtomicFile.ts"
import type { RealiseOutcome } from "./Activator.ts"
import { errorText } from "./DurableFiles.ts"

/** Thrown by the stream: the realisation ends with `outcome`. */
export class SourceError extends Error {
  readonly outcome: RealiseOutcome

  constructor(outcome: RealiseOutcome) {
    super(outcome._tag === "Ok" ? outcome._tag : outcome.detail)
    this.outcome = outcome
  }
}

/** `stallMs`: longest silence of a connection. */
export interface SourceLimits {
  readonly maxBytes: number
  readonly stallMs: number
}

/** Told once how many bytes are to come, by a source that knows; before the first of them. */
type Expects = (bytes: number) => void

const transientStatuses = new Set([408, 425, 429])
/** What a file system across a network answers when it is away. */
const transientCodes = new Set(["EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EHOSTDOWN", "EHOSTUNREACH", "ENOTCONN"])

const transient = (detail: string): SourceError => new SourceError({ _tag: "Transient", detail })
const absent = (detail: string): SourceError => new SourceError({ _tag: "Absent", detail })

/** The chunks of a stream, with its errors as `failed` sees them. */
async function* chunksOf(stream: AsyncIterable<Buffer>, failed: (error: unknown) => SourceError) {
  const iterator = stream[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await iterator.next().catch((error: unknown) => {
        throw failed(error)
      })
      if (next.done === true) return
      yield next.value
    }
  } finally {
    // Ends the stream when the reader stops early.
    await iterator.return?.()
  }
}

async function* fromDirectory(directory: string, closure: string, signal: AbortSignal, expects: Expects) {
  const path = join(directory, `${closure}.tar`)
  const failed = (error: unknown): SourceError => {
    const detail = `reading ${path}: ${errorText(error)}`
    return transientCodes.has(errorCode(error) ?? "") ? transient(detail) : absent(detail)
  }
  // Without O_NONBLOCK a fifo of that name would block a thread for ever.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw failed(error)
  })
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw absent(`${path} is not a regular file`)
    expects(stat.size)
    const stream: AsyncIterable<Buffer> = handle.createReadStream({ signal, autoClose: false })
    yield* chunksOf(stream, failed)
  } finally {
    await handle.close()
  }
}

/** An address for messages: without what a user may have put in front of the host or behind the path. */
const shown = (url: URL): string => `${url.protocol}//${url.host}${url.pathname}`

async function* fromAddress(
  source: string,
  closure: string,
  { maxBytes, stallMs }: SourceLimits,
  signal: AbortSignal,
  expects: Expects
) {
  const url = new URL(source)
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/${encodeURIComponent(closure)}.tar`
  let stalled: Error | undefined
  const failed = (error: unknown): SourceError => transient(`GET ${shown(url)}: ${errorText(stalled ?? error)}`)
  const request = (url.protocol === "https:" ? httpsGet : httpGet)(url, { agent: false, signal, timeout: stallMs })
  // Every failure is seen by whoever reads; an error without any listener would end the process.
  request.on("error", () => undefined)
  // Also while the answer is read: the time-out is that of the socket, and starts anew with every byte.
  request.on("timeout", () => {
    stalled = new Error(`no byte for ${stallMs} ms`)
    request.destroy(stalled)
  })
  try {
    const answered: Promise<Array<unknown>> = once(request, "response")
    const [response] = await answered.catch((error: unknown) => {
      throw failed(error)
    })
    if (!(response instanceof IncomingMessage)) throw failed("no answer")
    yield* answerChunks(response, shown(url), maxBytes, expects, failed)
  } finally {
    request.destroy()
  }
}

async function* answerChunks(
  response: IncomingMessage,
  address: string,
  maxBytes: number,
  expects: Expects,
  failed: (error: unknown) => SourceError
) {
  const status = response.statusCode ?? 0
  if (status !== 200) {
    const detail = `GET ${address} answered ${status}`
    throw status >= 500 || transientStatuses.has(status) ? transient(detail) : absent(detail)
  }
  const length = Number(response.headers["content-length"] ?? 0)
  if (length > maxBytes) {
    throw new SourceError({ _tag: "Untrusted", detail: `${address} is larger than ${maxBytes} bytes: ${length}` })
  }
  if (length > 0) expects(length)
  yield* chunksOf(response, failed)
}

/** The bytes of an archive; every failure of the source is a `SourceError`. */
export function archiveChunks(
  source: string,
  closure: string,
  limits: SourceLimits,
  signal: AbortSignal,
  expects: Expects
): AsyncIterable<Buffer> {
  return /^https?:\/\//.test(source)
    ? fromAddress(source, closure, limits, signal, expects)
    : fromDirectory(source, closure, signal, expects)
}
