import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { join } from "node:path"
import { artifactMaxBytes, ArtifactSource } from "../../../src/Layers/Net/ArtifactSource.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { textOf } from "../../support/tls.ts"

const fetchFrom = (layer: ReturnType<typeof ArtifactSource.layerDirectory>) =>
  Effect.provide(Effect.map(ArtifactSource, ({ fetch }) => fetch), layer)

const publish = (directory: string, name: string, text: string, signature = "s".repeat(64)) => {
  writeFileSync(join(directory, name), text)
  writeFileSync(join(directory, `${name}.sig`), signature)
}

describe("releases in a directory", () => {
  it.live("an artifact comes with its signature, and is the same object until one of the files changes", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      mkdirSync(join(directory, "rollouts"))
      publish(directory, "rollouts/stable@0f.json", "{}")
      const fetch = yield* fetchFrom(ArtifactSource.layerDirectory(directory))
      const first = yield* fetch("rollouts/stable@0f.json")
      assert.deepStrictEqual([textOf(first.bytes), first.signature.length], ["{}", 64])
      assert.strictEqual(yield* fetch("rollouts/stable@0f.json"), first)
      writeFileSync(join(directory, "rollouts/stable@0f.json.sig"), "t".repeat(64))
      const second = yield* fetch("rollouts/stable@0f.json")
      assert.strictEqual(textOf(second.signature), "t".repeat(64))
    }))

  it.live("what is not there is absent, with or without its signature", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const fetch = yield* fetchFrom(ArtifactSource.layerDirectory(directory))
      assert.strictEqual((yield* Effect.flip(fetch("a.json"))).reason, "artifact-absent")
      writeFileSync(join(directory, "a.json"), "{}")
      assert.strictEqual((yield* Effect.flip(fetch("a.json"))).reason, "artifact-absent")
      publish(directory, "a.json", "{}")
      assert.strictEqual(textOf((yield* fetch("a.json")).bytes), "{}")
      rmSync(join(directory, "a.json"))
      assert.strictEqual((yield* Effect.flip(fetch("a.json"))).reason, "artifact-absent")
    }))

  it.live("a directory in its place is unreachable, and a file above the limit is not read", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const fetch = yield* fetchFrom(ArtifactSource.layerDirectory(directory))
      publish(directory, "large.json", "")
      truncateSync(join(directory, "large.json"), artifactMaxBytes + 1)
      assert.strictEqual((yield* Effect.flip(fetch("large.json"))).reason, "artifact-too-large")
      mkdirSync(join(directory, "dir.json"))
      writeFileSync(join(directory, "dir.json.sig"), "s")
      assert.strictEqual((yield* Effect.flip(fetch("dir.json"))).reason, "artifact-unreachable")
    }))
})

const serve = (answer: (request: IncomingMessage, response: ServerResponse) => void) =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer(answer)
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  ).pipe(Effect.map((server) => {
    const address = server.address()
    return `http://127.0.0.1:${address !== null && typeof address === "object" ? address.port : 0}/releases`
  }))

describe("releases over HTTP", () => {
  it.live("names are appended to the address, and an unchanged artifact costs two 304", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const baseUrl = yield* serve((request, response) => {
        seen.push(`${request.url} ${request.headers["if-none-match"] ?? "-"}`)
        if (request.headers["if-none-match"] === "\"v1\"") response.writeHead(304).end()
        else {response.writeHead(200, { etag: "\"v1\"" }).end(
            request.url?.endsWith(".sig") === true ? "s".repeat(64) : "{}"
          )}
      })
      const fetch = yield* fetchFrom(ArtifactSource.layerHttp({ baseUrl, tokenFile: undefined }))
      const first = yield* fetch("fleet.resolved.json")
      assert.strictEqual(textOf(first.bytes), "{}")
      assert.strictEqual(yield* fetch("fleet.resolved.json"), first)
      assert.deepStrictEqual(seen, [
        "/releases/fleet.resolved.json -",
        "/releases/fleet.resolved.json.sig -",
        "/releases/fleet.resolved.json \"v1\"",
        "/releases/fleet.resolved.json.sig \"v1\""
      ])
    }))

  const failures: ReadonlyArray<readonly [string, (response: ServerResponse) => void, string]> = [
    ["404", (response) => response.writeHead(404).end(), "artifact-absent"],
    ["401", (response) => response.writeHead(401).end(), "artifact-unreachable"],
    ["500", (response) => response.writeHead(500).end(), "artifact-unreachable"],
    [
      "a redirect",
      (response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
      "artifact-unreachable"
    ],
    ["a 304 that nobody asked for", (response) => response.writeHead(304).end(), "artifact-unreachable"],
    [
      "a cut connection",
      (response) => {
        response.writeHead(200, { "content-length": "100" }).write("half")
        response.socket?.destroySoon()
      },
      "artifact-unreachable"
    ],
    [
      "an endless body",
      (response) => response.writeHead(200).end(Buffer.alloc(artifactMaxBytes + 1)),
      "artifact-too-large"
    ]
  ]
  for (const [name, answer, reason] of failures) {
    it.live(`${name} is ${reason}`, () =>
      Effect.gen(function*() {
        const baseUrl = yield* serve((_request, response) => answer(response))
        const fetch = yield* fetchFrom(ArtifactSource.layerHttp({ baseUrl, tokenFile: undefined }))
        assert.strictEqual((yield* Effect.flip(fetch("fleet.resolved.json"))).reason, reason)
      }))
  }

  it.live("a token is never sent in the clear", () =>
    Effect.gen(function*() {
      let requests = 0
      const directory = yield* temporaryDirectory
      writeFileSync(join(directory, "token"), "secret\n")
      const baseUrl = yield* serve((_request, response) => {
        requests++
        response.writeHead(200).end("{}")
      })
      const fetch = yield* fetchFrom(ArtifactSource.layerHttp({ baseUrl, tokenFile: join(directory, "token") }))
      const error = yield* Effect.flip(fetch("fleet.resolved.json"))
      assert.strictEqual(error.reason, "artifact-unreachable")
      assert.notInclude(error.message, "secret")
      assert.strictEqual(requests, 0)
    }))

  it.live("nobody listening is unreachable", () =>
    Effect.gen(function*() {
      const fetch = yield* fetchFrom(ArtifactSource.layerHttp({ baseUrl: "http://127.0.0.1:1", tokenFile: undefined }))
      assert.strictEqual((yield* Effect.flip(fetch("fleet.resolved.json"))).reason, "artifact-unreachable")
    }))
})
