/**
 * A control plane by script: what it is asked is recorded with the time of the TestClock, what it answers is a function of
 * the request. The agent's edges run over it without sockets.
 */
import { Clock, Effect, Layer } from "effect"
import { Artifacts } from "../../src/Agent/Artifacts.ts"
import { Handshake } from "../../src/Agent/Handshake.ts"
import type { Inbox } from "../../src/Agent/Inbox.ts"
import type { Intents } from "../../src/Agent/Intents.ts"
import type { Journal } from "../../src/Agent/Journal.ts"
import { Link } from "../../src/Agent/Link.ts"
import type { Settings } from "../../src/Agent/Settings.ts"
import type { AgentState } from "../../src/Agent/State.ts"
import { ArtifactCache } from "../../src/Layers/Disk/ArtifactCache.ts"
import type { DiskRoom } from "../../src/Layers/Disk/DiskRoom.ts"
import { TrustFile } from "../../src/Layers/Disk/TrustFile.ts"
import type { Activator } from "../../src/Layers/Host/Activator.ts"
import { Facts } from "../../src/Layers/Host/Facts.ts"
import { Exchange, ExchangeError, type ExchangeRequest, type SendOptions } from "../../src/Layers/Net/Exchange.ts"
import { allCapabilities, capabilitiesHeader } from "../../src/Schema/Wire.ts"
import { type SignedBytes, trustJson } from "./artifacts.ts"

/** What a script answers: a response, or a way in which none arrives; after `afterMs`. */
export interface Answer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
  readonly error?: ExchangeError["kind"]
  readonly afterMs?: number
}

export interface Asked {
  /** TestClock, ms. */
  readonly at: number
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
  readonly options: SendOptions
}

/** `nth`: how many requests of this path came before, from 0. */
export type Script = (request: Asked, nth: number) => Answer

/** Headers of an answer of ours. */
export const capable = { [capabilitiesHeader]: allCapabilities.join(",") }

export const heartbeatPath = "/v1/agent/heartbeat"
export const eventsPath = "/v1/agent/events"
export const dispatchPath = "/v1/agent/dispatch?wait=60"

const json = (value: unknown): Answer => ({ status: 200, headers: capable, body: JSON.stringify(value) })
export const ok = json
export const noContent: Answer = { status: 204, headers: capable }

/** What `Rig` provides and the edges need. */
export type Parts = AgentState | Inbox | Intents | Journal | Settings | Activator | DiskRoom

/** What `Peer.layer` provides. */
export type Edges = Artifacts | Handshake | Link | Exchange | TrustFile | ArtifactCache | Facts

/** A healthy control plane without work: polls are held for their minute. */
export const idle: Script = ({ path }) => {
  if (path === heartbeatPath) return json({})
  if (path === eventsPath) return noContent
  return path.startsWith("/v1/agent/dispatch") ? { ...noContent, afterMs: 60_000 } : { status: 404, headers: capable }
}

export class Peer {
  readonly asked: Array<Asked> = []
  readonly trust: { bytes: Uint8Array } = { bytes: new TextEncoder().encode(JSON.stringify(trustJson())) }
  readonly cache = new Map<string, Uint8Array>()
  script: Script

  constructor(script: Script = idle) {
    this.script = script
  }

  /** What was asked at one path. */
  at(path: string): ReadonlyArray<Asked> {
    return this.asked.filter((one) => one.path === path)
  }

  /** When one path was asked, ms. */
  times(path: string): ReadonlyArray<number> {
    return this.at(path).map(({ at }) => at)
  }

  /** The JSON bodies sent to one path. */
  bodies(path: string): ReadonlyArray<Record<string, unknown>> {
    return this.at(path).map(({ text }) => JSON.parse(text))
  }

  private send = (request: ExchangeRequest, options: SendOptions) =>
    Effect.gen({ self: this }, function*() {
      const asked: Asked = {
        at: Math.floor(yield* Clock.currentTimeMillis),
        method: request.method,
        path: request.path,
        headers: request.headers,
        text: new TextDecoder().decode(request.body),
        options
      }
      const nth = this.at(request.path).length
      this.asked.push(asked)
      const answer = this.script(asked, nth)
      if (answer.afterMs !== undefined) yield* Effect.sleep(answer.afterMs)
      if (answer.error !== undefined) {
        return yield* new ExchangeError({ kind: answer.error, message: `${request.path}: ${answer.error}` })
      }
      const { body = "", headers = {}, status = 200 } = answer
      return { status, headers, body: typeof body === "string" ? new TextEncoder().encode(body) : body }
    })

  /** The way to this peer alone. */
  readonly link = Layer.suspend(() =>
    Layer.fresh(Link.layer.pipe(Layer.provide(Layer.succeed(Exchange, Exchange.of({ send: this.send })))))
  )

  /** The agent's edges, and the world below them, over this peer. */
  readonly layer = Layer.suspend(() => {
    const outside = Layer.mergeAll(
      Layer.succeed(Exchange, Exchange.of({ send: this.send })),
      TrustFile.layerMemory(this.trust),
      ArtifactCache.layerMemory(this.cache),
      Facts.layerMemory({ uptimeSeconds: 42, bootId: undefined })
    )
    const edges = Artifacts.layer.pipe(Layer.provideMerge(Link.layer), Layer.merge(Handshake.layer))
    return Layer.fresh(edges.pipe(Layer.provideMerge(outside)))
  })
}

/** Routes of signed artifacts, with validators; anything else as `otherwise` says. */
export const publishing =
  (artifacts: Readonly<Record<string, SignedBytes>>, otherwise: Script = idle): Script => (request, nth) => {
    const path = request.path.replace(/\/sig$/, "")
    const found = Object.hasOwn(artifacts, path) ? artifacts[path] : undefined
    if (found === undefined) return otherwise(request, nth)
    const body = request.path.endsWith("/sig") ? found.signature : found.bytes
    const etag = `"${Buffer.from(found.signature).toString("hex").slice(0, 16)}"`
    return request.headers["if-none-match"] === etag
      ? { status: 304, headers: capable }
      : { status: 200, headers: { ...capable, etag }, body }
  }
