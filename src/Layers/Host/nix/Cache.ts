/**
 * Our own look at binary caches. Nix says the same words when a cache does not have a closure, cannot be reached, or wants a
 * password (nix.md §3), so after such a failure each cache is asked directly for its `nix-cache-info` and for the
 * descriptions of the paths in question. Nothing that is read here is trusted: it only explains.
 *
 * As Nix does, it takes passwords from the netrc file and authorities from `NIX_SSL_CERT_FILE`, and follows redirects. It
 * does not use a proxy: behind one, an unreachable cache may be an absent closure, which costs tries and condemns
 * nothing.
 */
import { Effect } from "effect"
import { once } from "node:events"
import { readFile } from "node:fs/promises"
import { get as httpGet, IncomingMessage } from "node:http"
import { get as httpsGet } from "node:https"
import { basename } from "node:path"
import { errorText, unlessAbsent } from "../DurableFiles.ts"
import type { CacheFinding } from "./Classify.ts"
import type { NixSettings } from "./Settings.ts"

export interface CacheAccess {
  /** Prefix of the store paths of this host. */
  readonly storeDir: string
  /** PEM of the authorities that Nix believes; `undefined`: those of Node. */
  readonly authorities: string | undefined
  /** Longest time of one request. */
  readonly timeoutMs: number
}

/** `nix-cache-info` has three lines, a narinfo some twenty. */
const maxBodyBytes = 65_536
const maxRedirects = 5
/** Paths that are asked for at most: one that is missing says enough. */
const maxPaths = 3

interface Answer {
  readonly status: number
  readonly location: string | undefined
  readonly body: string
}

async function requestOnce(
  url: URL,
  headers: Readonly<Record<string, string>>,
  { authorities }: CacheAccess,
  signal: AbortSignal
): Promise<Answer> {
  const options = { headers: { ...headers }, agent: false, signal } as const
  const sent = url.protocol === "https:"
    ? httpsGet(url, authorities === undefined ? options : { ...options, ca: authorities })
    : httpGet(url, options)
  // Every failure is seen by whoever waits; an error without any listener would end the process.
  sent.on("error", () => undefined)
  try {
    const answered: ReadonlyArray<unknown> = await once(sent, "response")
    const [response] = answered
    if (!(response instanceof IncomingMessage)) throw new Error("no answer")
    let body = ""
    for await (const chunk of response.setEncoding("utf8")) {
      body += String(chunk)
      if (body.length > maxBodyBytes) throw new Error(`more than ${maxBodyBytes} bytes`)
    }
    return { status: response.statusCode ?? 0, location: response.headers.location, body }
  } finally {
    sent.destroy()
  }
}

/** Name and password of a host in a netrc file; also its `default`. */
export function credentialsOf(netrc: string, host: string): string | undefined {
  const words = netrc.split(/\s+/)
  let applies = false
  let login = ""
  let password: string | undefined
  for (let at = 0; at < words.length; at++) {
    switch (words[at]) {
      case "machine":
      case "default":
        if (password !== undefined) return `${login}:${password}`
        applies = words[at] === "default" || words[++at] === host
        login = ""
        break
      case "login":
        if (applies) login = words[++at] ?? ""
        break
      case "password":
        if (applies) password = words[++at] ?? ""
        break
    }
  }
  return password === undefined ? undefined : `${login}:${password}`
}

async function request(address: string, netrc: string, access: CacheAccess, signal: AbortSignal): Promise<Answer> {
  let url = new URL(address)
  const first = url.host
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    // A password is for the host that it was given for.
    const credentials = url.host === first ? credentialsOf(netrc, url.hostname) : undefined
    const headers = credentials === undefined
      ? {}
      : { authorization: `Basic ${Buffer.from(credentials).toString("base64")}` }
    const answer = await requestOnce(url, headers, access, signal)
    if (answer.location === undefined || answer.status < 300 || answer.status > 399) return answer
    url = new URL(answer.location, url)
  }
  throw new Error(`more than ${maxRedirects} redirects`)
}

type Verdict = Omit<CacheFinding, "cache">

/** What a status says about the thing that was asked for. */
function verdictOf(what: string, { status }: Answer): Verdict {
  const detail = `${what} answered ${status}`
  if (status === 200) return { answer: "Present", detail }
  if (status === 401 || status === 403 || status === 407) return { answer: "Auth", detail }
  if (status === 404 || status === 410) return { answer: "Absent", detail }
  return { answer: status >= 500 || status === 408 || status === 429 ? "Unreachable" : "Config", detail }
}

const infoFile = "nix-cache-info"

function infoVerdict(answer: Answer, storeDir: string): Verdict {
  const verdict = verdictOf(infoFile, answer)
  if (verdict.answer === "Absent") return { answer: "Config", detail: `${verdict.detail}: it is no binary cache` }
  if (verdict.answer !== "Present") return verdict
  const prefix = /^StoreDir: (.*)$/m.exec(answer.body)?.[1]?.trim()
  return prefix === undefined || prefix === storeDir
    ? verdict
    : { answer: "Config", detail: `it is for stores in ${prefix}, not in ${storeDir}` }
}

async function examine(
  cache: string,
  files: ReadonlyArray<string>,
  netrc: string,
  access: CacheAccess,
  signal: AbortSignal
): Promise<Verdict> {
  const base = cache.split("?")[0]!.replace(/\/+$/, "")
  const limited = () => AbortSignal.any([signal, AbortSignal.timeout(access.timeoutMs)])
  const info = infoVerdict(await request(`${base}/${infoFile}`, netrc, access, limited()), access.storeDir)
  if (info.answer !== "Present") return info
  let verdict: Verdict = info
  for (const file of files) {
    verdict = verdictOf(file, await request(`${base}/${file}`, netrc, access, limited()))
    if (verdict.answer !== "Present") return verdict
  }
  return verdict
}

const isHttp = (cache: string): boolean => /^https?:\/\//.test(cache)

/** An address for messages: without what a user may have put in front of the host or behind the path. */
function shown(cache: string): string {
  if (!isHttp(cache)) return cache.split("?")[0]!
  if (!URL.canParse(cache)) return "an address that cannot be parsed"
  const url = new URL(cache)
  return `${url.protocol}//${url.host}${url.pathname}`
}

const lookAt = (
  cache: string,
  files: ReadonlyArray<string>,
  settings: NixSettings,
  access: CacheAccess
): Effect.Effect<CacheFinding> => {
  if (!isHttp(cache)) {
    return Effect.succeed({ cache: shown(cache), answer: "Unasked", detail: "not asked: it is not an HTTP cache" })
  }
  return Effect.tryPromise({
    try: async (signal) => {
      const netrc = (await unlessAbsent(readFile(settings.netrcFile, "utf8")).catch(() => "")) ?? ""
      return { cache: shown(cache), ...await examine(cache, files, netrc, access, signal) }
    },
    catch: errorText
  }).pipe(
    Effect.catch((detail) => Effect.succeed<CacheFinding>({ cache: shown(cache), answer: "Unreachable", detail }))
  )
}

/** What every substituter says about these store paths: the first trouble or absence that it answers, else `Present`. */
export const lookForPaths = (
  paths: ReadonlyArray<string>,
  settings: NixSettings,
  access: CacheAccess
): Effect.Effect<ReadonlyArray<CacheFinding>> => {
  const files = paths.slice(0, maxPaths).map((path) => `${basename(path).split("-")[0]!}.narinfo`)
  return Effect.forEach(settings.substituters, (cache) => lookAt(cache, files, settings, access), {
    concurrency: "unbounded"
  })
}

/** What a cache says about one of its files, named by its whole address. */
export const lookForFile = (
  url: string,
  settings: NixSettings,
  access: CacheAccess
): Effect.Effect<CacheFinding> => {
  const cache = settings.substituters.map((one) => one.split("?")[0]!.replace(/\/+$/, ""))
    .find((one) => url.startsWith(`${one}/`))
  return cache === undefined
    ? Effect.succeed({ cache: shown(url), answer: "Unasked", detail: "not asked: no substituter has this address" })
    : lookAt(cache, [url.slice(cache.length + 1)], settings, access)
}
