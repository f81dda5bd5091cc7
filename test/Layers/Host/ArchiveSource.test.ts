import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { execFileSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { Activator } from "../../../src/Layers/Host/Activator.ts"
import * as ArchiveActivator from "../../../src/Layers/Host/ArchiveActivator.ts"
import { detailOf, makeHost, realiseOn, tracesIn } from "../../support/archiveHost.ts"
import { noMounts, smallDisk } from "../../support/directories.ts"
import { minimalEntries, nameOf, tarOf } from "../../support/tar.ts"
import { until } from "../../support/until.ts"

const archive = tarOf([...minimalEntries, { path: "data", content: "z".repeat(300_000) }])
const closure = nameOf(archive)

type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** A server on loopback; answers its address. */
const serve = (answer: Answer) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const server = createServer(answer)
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const close = () => {
          server.closeAllConnections()
          server.close()
        }
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}/closures/`, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const realiseFrom = (answer: Answer, over: Partial<ArchiveActivator.ArchiveActivatorConfig> = {}) =>
  Effect.gen(function*() {
    const { url } = yield* serve(answer)
    const host = yield* makeHost({ source: url, stallMs: 300, ...over })
    const outcome = yield* realiseOn(host, closure)
    return { outcome, traces: tracesIn(host.config.storeDir) }
  })

const status = (code: number): Answer => (_, response) => response.writeHead(code, { location: "/elsewhere" }).end("no")
const half = archive.subarray(0, archive.length / 2)

describe("realising over HTTP", () => {
  it.live("asks once for <source>/<closure>.tar and unpacks the answer", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const { outcome, traces } = yield* realiseFrom((request, response) => {
        asked.push(`${request.method} ${request.url}`)
        response.end(archive)
      })
      assert.deepStrictEqual(outcome, { _tag: "Ok" })
      assert.deepStrictEqual(asked, [`GET /closures/${closure}.tar`])
      assert.deepStrictEqual(traces, [closure, closure])
    }))

  it.live("takes an answer that comes in small pieces", () =>
    Effect.gen(function*() {
      const { outcome } = yield* realiseFrom((_, response) => {
        for (let at = 0; at < archive.length; at += 777) response.write(archive.subarray(at, at + 777))
        response.end()
      })
      assert.deepStrictEqual(outcome, { _tag: "Ok" })
    }))

  it.live.each<[string, Answer, string, RegExp]>([
    ["404", status(404), "Absent", /answered 404/],
    ["401", status(401), "Absent", /answered 401/],
    ["403", status(403), "Absent", /answered 403/],
    ["410", status(410), "Absent", /answered 410/],
    ["a redirect", status(302), "Absent", /answered 302/],
    ["408", status(408), "Transient", /answered 408/],
    ["429", status(429), "Transient", /answered 429/],
    ["500", status(500), "Transient", /answered 500/],
    ["503", status(503), "Transient", /answered 503/],
    ["a reset", (request) => request.socket.resetAndDestroy(), "Transient", /ECONNRESET|hang up/],
    ["silence", () => undefined, "Transient", /no byte for 300 ms/],
    ["half and silence", (_, response) => void response.write(half), "Transient", /no byte for 300 ms/],
    [
      "half and the end of the connection",
      (request, response) => {
        response.writeHead(200, { "content-length": archive.length })
        response.write(half, () => request.socket.destroy())
      },
      "Transient",
      /aborted|ECONNRESET/
    ],
    ["half as if it were all", (_, response) => void response.end(half), "Corrupt", /SHA-256/],
    [
      "a length beyond the limit",
      (_, response) => response.writeHead(200, { "content-length": 2 ** 40 }).flushHeaders(),
      "Untrusted",
      /is larger than/
    ]
  ])("%s is told apart, and leaves no trace", ([, answer, tag, detail]) =>
    Effect.gen(function*() {
      const { outcome, traces } = yield* realiseFrom(answer)
      assert.strictEqual(outcome._tag, tag)
      assert.match(detailOf(outcome), detail)
      assert.deepStrictEqual(traces, [])
    }))

  it.live("an endless answer ends at the limit of bytes", () =>
    Effect.gen(function*() {
      const { outcome } = yield* realiseFrom((_, response) => {
        response.write(archive)
        const more = (): void => void response.write(Buffer.alloc(65_536), more)
        more()
      }, { limits: { maxBytes: 1_000_000, maxEntries: 10, maxPathBytes: 100 } })
      assert.strictEqual(outcome._tag, "Untrusted")
      assert.match(detailOf(outcome), /larger than 1000000 bytes/)
    }))

  it.live("a server that is not there, or a name that is not known, is Transient", () =>
    Effect.gen(function*() {
      const { close, url } = yield* serve(status(200))
      close()
      for (const source of [url, "http://nixfleet.invalid/"]) {
        const outcome = yield* realiseOn(yield* makeHost({ source }), closure)
        assert.strictEqual(outcome._tag, "Transient")
        assert.match(detailOf(outcome), /ECONNREFUSED|ENOTFOUND|EAI_AGAIN/)
      }
    }))

  it.live("a password in the address stays out of the messages", () =>
    Effect.gen(function*() {
      const { url } = yield* serve(status(404))
      const source = url.replace("http://", "http://user:secret@")
      const outcome = yield* realiseOn(yield* makeHost({ source }), closure)
      assert.match(detailOf(outcome), /answered 404/)
      assert.notMatch(detailOf(outcome), /secret/)
    }))

  it.live("a source that drips past the deadline ends as Deadline, without a trace", () =>
    Effect.gen(function*() {
      const dripping = async (response: ServerResponse) => {
        for (let at = 0; !response.closed; at += 10) {
          response.write(archive.subarray(at, at + 10))
          await pause(20)
        }
      }
      const drip: Answer = (_, response) => void dripping(response)
      const { outcome, traces } = yield* realiseFrom(drip, { realiseTimeoutMs: 400 })
      assert.strictEqual(outcome._tag, "Deadline")
      assert.deepStrictEqual(traces, [])
    }))

  it.live("an interrupted realisation closes its connection and leaves no trace; the next one works", () =>
    Effect.gen(function*() {
      let requests = 0
      let closed = 0
      const { url } = yield* serve((_, response) => {
        requests++
        if (requests > 1) return void response.end(archive)
        response.write(half)
        response.on("close", () => closed++)
      })
      const host = yield* makeHost({ source: url })
      yield* Effect.gen(function*() {
        const activator = yield* Activator
        const realising = yield* Effect.forkChild(activator.realise(closure))
        yield* until(() => tracesIn(host.config.storeDir).length > 0)
        yield* Fiber.interrupt(realising)
        assert.deepStrictEqual(tracesIn(host.config.storeDir), [])
        assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
        assert.strictEqual(closed, 1)
      }).pipe(Effect.provide(host.layer))
    }))

  it.live("two realisations of one closure at once fetch it once", () =>
    Effect.gen(function*() {
      let requests = 0
      const { url } = yield* serve((_, response) => {
        requests++
        response.end(archive)
      })
      const host = yield* makeHost({ source: url })
      yield* Effect.gen(function*() {
        const { realise } = yield* Activator
        const outcomes = yield* Effect.all([realise(closure), realise(closure)], { concurrency: 2 })
        assert.deepStrictEqual(outcomes, [{ _tag: "Ok" }, { _tag: "Ok" }])
        assert.strictEqual(requests, 1)
      }).pipe(Effect.provide(host.layer))
    }))
})

describe("a disk that fails is the host's fault", () => {
  it.live.skipIf(noMounts !== undefined)(
    "full: disk; read-only: readOnly; no trace of either",
    () =>
      Effect.gen(function*() {
        const { source } = yield* makeHost()
        writeFileSync(join(source, `${closure}.tar`), archive)
        const systemDir = yield* smallDisk(262_144)
        const config = ArchiveActivator.archiveActivatorConfig({ source, systemDir })
        yield* Effect.gen(function*() {
          const activator = yield* Activator
          const full = yield* activator.realise(closure)
          assert.deepStrictEqual({ ...full, detail: "" }, { _tag: "HostFault", fault: "disk", detail: "" })
          assert.match(detailOf(full), /ENOSPC/)
          assert.deepStrictEqual(tracesIn(config.storeDir), [])
          execFileSync("mount", ["-o", "remount,ro", systemDir])
          const readOnly = yield* activator.realise(closure)
          assert.deepStrictEqual({ ...readOnly, detail: "" }, { _tag: "HostFault", fault: "readOnly", detail: "" })
        }).pipe(Effect.provide(ArchiveActivator.layer(config)))
      })
  )
})
