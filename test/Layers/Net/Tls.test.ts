import { assert, describe, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { generateKeyPairSync } from "node:crypto"
import { renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { createConnection, createServer, type Socket } from "node:net"
import { join } from "node:path"
import { connect } from "node:tls"
import { makeAuthority } from "../../../examples/certificates.ts"
import { Draining } from "../../../src/Layers/Net/Draining.ts"
import type { ExchangeHandler, ExchangeResponse, Peer } from "../../../src/Layers/Net/Exchange.ts"
import * as TlsClient from "../../../src/Layers/Net/TlsClient.ts"
import { agentSuffix, Certificates } from "../../support/certificates.ts"
import { openSshPrivateKey } from "../../support/openssh.ts"
import { client, get, post, quick, serve, session, textOf, utf8 } from "../../support/tls.ts"

const answer = (text: string) => ({ status: 200, headers: { "content-type": "text/plain" }, body: utf8(text) })
const whoami: ExchangeHandler = (_request, peer) => Effect.succeed(answer(peer?.commonName ?? "nobody"))

const agentClient = Effect.fnUntraced(function*(port: number, id = "web-1") {
  const { authority, caFile, write } = yield* Certificates
  const files = write(id, authority.agent(id))
  return yield* client({
    baseUrl: `https://localhost:${port}`,
    caFile,
    certFile: files.cert,
    keyFile: files.key,
    insecure: false
  })
})

const anonymousClient = Effect.fnUntraced(function*(port: number) {
  const { caFile } = yield* Certificates
  return yield* client({ baseUrl: `https://localhost:${port}`, caFile, insecure: false })
})

/** What a raw TLS client meets at the server: the protocol that was agreed, or why there is none. */
const handshake = (port: number, maxVersion: "TLSv1.2" | "TLSv1.3", ca: string) =>
  Effect.callback<string>((resume) => {
    const socket = connect({ host: "127.0.0.1", servername: "localhost", port, maxVersion, ca }, () => {
      resume(Effect.succeed(socket.getProtocol() ?? "none"))
      socket.destroy()
    })
    socket.on("error", (cause: Error & { code?: string }) => resume(Effect.succeed(cause.code ?? cause.message)))
  })

describe("TLS exchange", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("a certificate of the client CA names its peer", () =>
      Effect.gen(function*() {
        const { port } = yield* serve(whoami)
        const exchange = yield* agentClient(port)
        const response = yield* exchange.send(get("/"), quick)
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["content-type"], "text/plain")
        assert.strictEqual(textOf(response.body), `agent-web-1.${agentSuffix}`)
      }))

    it.effect("the peer carries the validity of its certificate in epoch milliseconds", () =>
      Effect.gen(function*() {
        const { authority, caFile, write } = yield* Certificates
        const peer = yield* Deferred.make<Peer | undefined>()
        const { port } = yield* serve((_request, found) => Deferred.succeed(peer, found).pipe(Effect.as(answer(""))))
        const validity = { notBefore: 1_700_000_000_000, notAfter: 4_000_000_000_000 }
        const files = write("dated", authority.agent("dated", validity))
        const exchange = yield* client({
          baseUrl: `https://localhost:${port}`,
          caFile,
          certFile: files.cert,
          keyFile: files.key,
          insecure: false
        })
        yield* exchange.send(get("/"), quick)
        assert.deepStrictEqual(yield* Deferred.await(peer), {
          commonName: `agent-dated.${agentSuffix}`,
          unit: undefined,
          ...validity
        })
      }))

    it.effect("a resumed session still names its peer, with the dates to check", () =>
      Effect.gen(function*() {
        const { authority } = yield* Certificates
        const peers: Array<Peer | undefined> = []
        const { port } = yield* serve((_request, found) => Effect.sync(() => (peers.push(found), answer(""))))
        const identity = authority.agent("web-1")
        const first = yield* session(port, authority.cert, identity)
        const second = yield* session(port, authority.cert, identity, first.ticket)
        assert.deepStrictEqual([first.resumed, second.resumed], [false, true])
        assert.strictEqual(peers.length, 2)
        assert.strictEqual(peers[0]?.commonName, `agent-web-1.${agentSuffix}`)
        assert.deepStrictEqual(peers[1], peers[0])
      }))

    it.effect("after the authorities of client certificates changed, no session is resumed and no connection goes on", () =>
      Effect.gen(function*() {
        const { authority, directory } = yield* Certificates
        const clientCaFile = join(directory, "client-ca.pem")
        const replace = (text: string) => {
          writeFileSync(`${clientCaFile}.new`, text)
          renameSync(`${clientCaFile}.new`, clientCaFile)
        }
        replace(authority.cert)
        const peers: Array<string | undefined> = []
        const parked = yield* Deferred.make<void>()
        const { port } = yield* serve(
          ({ path }, found) =>
            path === "/poll"
              ? Effect.andThen(Deferred.succeed(parked, undefined), Effect.never)
              : Effect.sync(() => (peers.push(found?.commonName), answer(""))),
          { clientCaFile, limits: { identityCheckMs: 20 } }
        )
        const identity = authority.agent("web-1")
        const { ticket } = yield* session(port, authority.cert, identity)
        const again = yield* session(port, authority.cert, identity, ticket)
        const exchange = yield* agentClient(port)
        const poll = yield* Effect.forkChild(Effect.flip(exchange.send(get("/poll"), { ...quick, lane: "poll" })))
        yield* Deferred.await(parked)

        const other = makeAuthority({ commonName: "the next authority", now: Date.now(), agentSuffix })
        replace(other.cert)
        assert.strictEqual((yield* Fiber.join(poll)).kind, "cut")
        const afterwards = yield* session(port, authority.cert, identity, again.ticket ?? ticket)
        assert.deepStrictEqual([again.resumed, afterwards.resumed], [true, false])
        const named = `agent-web-1.${agentSuffix}`
        assert.deepStrictEqual(peers, [named, named, undefined])
        yield* session(port, authority.cert, other.agent("web-2"))
        assert.strictEqual(peers.at(-1), `agent-web-2.${agentSuffix}`)
      }))

    it.effect("the unit of a certificate is told when there is exactly one", () =>
      Effect.gen(function*() {
        const { authority } = yield* Certificates
        const units: Array<string | undefined> = []
        const { port } = yield* serve((_request, found) => Effect.sync(() => (units.push(found?.unit), answer(""))))
        yield* session(port, authority.cert, authority.operator("ada"))
        yield* session(port, authority.cert, authority.agent("web-1"))
        yield* session(port, authority.cert, authority.client({ commonName: "x", organizationalUnit: "a unit" }))
        assert.deepStrictEqual(units, ["nixfleet-operator", undefined, "a unit"])
      }))

    it.effect("a client without a certificate is served, as nobody", () =>
      Effect.gen(function*() {
        const { port } = yield* serve(whoami)
        const exchange = yield* anonymousClient(port)
        assert.strictEqual(textOf((yield* exchange.send(get("/"), quick)).body), "nobody")
      }))

    it.effect("a certificate of another CA names nobody", () =>
      Effect.gen(function*() {
        const { caFile, write } = yield* Certificates
        const { port } = yield* serve(whoami)
        const rogue = makeAuthority({ commonName: "rogue", now: Date.now(), agentSuffix })
        const files = write("rogue", rogue.agent("web-1"))
        const exchange = yield* client({
          baseUrl: `https://localhost:${port}`,
          caFile,
          certFile: files.cert,
          keyFile: files.key,
          insecure: false
        })
        assert.strictEqual(textOf((yield* exchange.send(get("/"), quick)).body), "nobody")
      }))

    it.effect("an expired certificate names nobody", () =>
      Effect.gen(function*() {
        const { authority, caFile, write } = yield* Certificates
        const { port } = yield* serve(whoami)
        const validity = { notBefore: 1_500_000_000_000, notAfter: 1_600_000_000_000 }
        const files = write("expired", authority.agent("web-1", validity))
        const exchange = yield* client({
          baseUrl: `https://localhost:${port}`,
          caFile,
          certFile: files.cert,
          keyFile: files.key,
          insecure: false
        })
        assert.strictEqual(textOf((yield* exchange.send(get("/"), quick)).body), "nobody")
      }))

    it.effect("a server certificate is no client certificate", () =>
      Effect.gen(function*() {
        const { caFile, serverFiles } = yield* Certificates
        const { port } = yield* serve(whoami)
        const exchange = yield* client({
          baseUrl: `https://localhost:${port}`,
          caFile,
          certFile: serverFiles.cert,
          keyFile: serverFiles.key,
          insecure: false
        })
        assert.strictEqual(textOf((yield* exchange.send(get("/"), quick)).body), "nobody")
      }))

    it.effect("a server of another CA is refused", () =>
      Effect.gen(function*() {
        const { directory } = yield* Certificates
        const { port } = yield* serve(whoami)
        const other = makeAuthority({ commonName: "other", now: Date.now(), agentSuffix })
        const caFile = join(directory, "other-ca.pem")
        writeFileSync(caFile, other.cert)
        const exchange = yield* client({ baseUrl: `https://localhost:${port}`, caFile, insecure: false })
        assert.strictEqual((yield* Effect.flip(exchange.send(get("/"), quick))).kind, "tls")
      }))

    it.effect("TLS 1.2 is refused", () =>
      Effect.gen(function*() {
        const { authority } = yield* Certificates
        const { port } = yield* serve(whoami)
        assert.strictEqual(yield* handshake(port, "TLSv1.3", authority.cert), "TLSv1.3")
        assert.match(yield* handshake(port, "TLSv1.2", authority.cert), /PROTOCOL_VERSION/)
      }))

    it.effect("a host's OpenSSH ed25519 key is a client key", () =>
      Effect.gen(function*() {
        const { authority, caFile, directory } = yield* Certificates
        const { port } = yield* serve(whoami)
        const keys = generateKeyPairSync("ed25519")
        const certFile = join(directory, "ssh.pem")
        const keyFile = join(directory, "ssh_host_ed25519_key")
        writeFileSync(certFile, authority.agentForKey("ssh-1", keys.publicKey))
        writeFileSync(keyFile, openSshPrivateKey(keys.privateKey))
        const exchange = yield* client({
          baseUrl: `https://localhost:${port}`,
          caFile,
          certFile,
          keyFile,
          insecure: false
        })
        assert.strictEqual(textOf((yield* exchange.send(get("/"), quick)).body), `agent-ssh-1.${agentSuffix}`)
      }))

    it.effect("each lane keeps one connection, and a parked poll does not delay a report", () =>
      Effect.gen(function*() {
        const parked = yield* Deferred.make<void>()
        const ports = new Set<number>()
        const release = yield* Deferred.make<void>()
        const proxied = yield* countConnections(
          (yield* serve((request) =>
            request.path === "/poll"
              ? Deferred.succeed(parked, undefined).pipe(
                Effect.andThen(Deferred.await(release)),
                Effect.as(answer("woken"))
              )
              : Effect.succeed(answer("done"))
          )).port,
          ports
        )
        const exchange = yield* agentClient(proxied)
        const poll = yield* Effect.forkChild(exchange.send(get("/poll"), { ...quick, lane: "poll" }))
        yield* Deferred.await(parked)
        for (let round = 0; round < 20; round++) {
          assert.strictEqual(textOf((yield* exchange.send(post("/report", "{}"), quick)).body), "done")
        }
        yield* Effect.all(Array.from({ length: 8 }, () => exchange.send(post("/report", "{}"), quick)), {
          concurrency: "unbounded"
        })
        yield* Deferred.succeed(release, undefined)
        assert.strictEqual(textOf((yield* Fiber.join(poll)).body), "woken")
        yield* exchange.send(get("/poll"), { ...quick, lane: "poll" })
        assert.strictEqual(ports.size, 2)
      }))

    it.effect("a renewed identity is used by the next request, and a broken renewal keeps the one in use", () =>
      Effect.gen(function*() {
        const { authority, caFile, write } = yield* Certificates
        const { port } = yield* serve(whoami)
        const files = write("renewing", authority.agent("before"))
        const exchange = yield* client({
          baseUrl: `https://localhost:${port}`,
          caFile,
          certFile: files.cert,
          keyFile: files.key,
          insecure: false
        })
        const name = Effect.map(exchange.send(get("/"), quick), (response) => textOf(response.body))
        assert.strictEqual(yield* name, `agent-before.${agentSuffix}`)
        const renewed = authority.agent("after")
        writeFileSync(`${files.cert}.new`, renewed.cert)
        renameSync(`${files.cert}.new`, files.cert)
        // The certificate is new and the key still old: they do not fit.
        assert.strictEqual(yield* name, `agent-before.${agentSuffix}`)
        writeFileSync(`${files.key}.new`, renewed.key)
        renameSync(`${files.key}.new`, files.key)
        assert.strictEqual(yield* name, `agent-after.${agentSuffix}`)
        writeFileSync(files.cert, "-----BEGIN CERTIFICATE-----\nhalf")
        assert.strictEqual(yield* name, `agent-after.${agentSuffix}`)
        // Not even its attributes can be read: the name is a loop of links.
        rmSync(files.cert)
        symlinkSync(files.cert, files.cert)
        assert.strictEqual(yield* name, `agent-after.${agentSuffix}`)
      }))

    it.effect("who shows no certificate may send little, whatever the route takes", () =>
      Effect.gen(function*() {
        const { port } = yield* serve(whoami)
        const [named, nobody] = [yield* agentClient(port), yield* anonymousClient(port)]
        assert.strictEqual((yield* nobody.send(post("/", "x".repeat(16_384)), quick)).status, 200)
        assert.strictEqual((yield* nobody.send(post("/", "x".repeat(16_385)), quick)).status, 413)
        assert.strictEqual((yield* named.send(post("/", "x".repeat(16_385)), quick)).status, 200)
      }))

    it.effect("bodies beyond what all connections may hold together are cut, and room comes back", () =>
      Effect.gen(function*() {
        const release = yield* Deferred.make<void>()
        const waits: ExchangeHandler = ({ path }) =>
          Effect.as(path === "/wait" ? Deferred.await(release) : Effect.void, answer(""))
        const { port } = yield* serve(waits, { limits: { maxHeldBytes: 10_000 } })
        const [first, second] = [yield* agentClient(port), yield* agentClient(port, "web-2")]
        const parked = yield* Effect.forkChild(first.send(post("/wait", "x".repeat(8_000)), quick))
        yield* Effect.sleep("200 millis")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(second.send(post("/", "x".repeat(8_000)), quick))))
        yield* Deferred.succeed(release, undefined)
        assert.strictEqual((yield* Fiber.join(parked)).status, 200)
        assert.strictEqual((yield* second.send(post("/", "x".repeat(8_000)), quick)).status, 200)
      }))

    it.effect("a body above the limit is answered 413 and never reaches the handler", () =>
      Effect.gen(function*() {
        let calls = 0
        const { port } = yield* serve(() => Effect.sync(() => (calls++, answer(""))), { maxBodyBytes: 1000 })
        const exchange = yield* agentClient(port)
        assert.strictEqual((yield* exchange.send(post("/", "x".repeat(1000)), quick)).status, 200)
        assert.strictEqual((yield* exchange.send(post("/", "x".repeat(1001)), quick)).status, 413)
        assert.strictEqual((yield* exchange.send(post("/", "x".repeat(3_000_000)), quick)).status, 413)
        assert.strictEqual((yield* exchange.send(post("/", "x"), quick)).status, 200)
        assert.strictEqual(calls, 2)
      }))

    it.effect("a chunked body without a length is limited while it streams", () =>
      Effect.gen(function*() {
        const { authority } = yield* Certificates
        const { port } = yield* serve(whoami, { maxBodyBytes: 10 })
        const head = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        assert.match(yield* raw(port, authority.cert, `${head}5\r\nabcde\r\n6\r\nfghijk\r\n`), /^HTTP\/1\.1 413 /)
      }))

    it.effect("an answer above the client's limit is refused", () =>
      Effect.gen(function*() {
        const { port } = yield* serve(() => Effect.succeed(answer("x".repeat(2000))))
        const exchange = yield* agentClient(port)
        const error = yield* Effect.flip(exchange.send(get("/"), { ...quick, maxBodyBytes: 1999 }))
        assert.strictEqual(error.kind, "tooLarge")
      }))

    it.effect("a server that does not answer in time is a time-out, and the lane is free again", () =>
      Effect.gen(function*() {
        const { port } = yield* serve((request) =>
          request.path === "/slow" ? Effect.never : Effect.succeed(answer("ok"))
        )
        const exchange = yield* agentClient(port)
        const error = yield* Effect.flip(exchange.send(get("/slow"), { ...quick, timeoutMs: 100 }))
        assert.strictEqual(error.kind, "timeout")
        assert.strictEqual((yield* exchange.send(get("/"), quick)).status, 200)
      }))

    it.effect("a client that goes away interrupts its handler", () =>
      Effect.gen(function*() {
        const parked = yield* Deferred.make<void>()
        const interrupted = yield* Deferred.make<void>()
        const { port } = yield* serve(() =>
          Deferred.succeed(parked, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
        )
        const exchange = yield* agentClient(port)
        const poll = yield* Effect.forkChild(exchange.send(get("/"), { ...quick, lane: "poll" }))
        yield* Deferred.await(parked)
        yield* Fiber.interrupt(poll)
        yield* Deferred.await(interrupted)
      }))

    it.effect("nobody listening is unreachable", () =>
      Effect.gen(function*() {
        const exchange = yield* agentClient(1)
        assert.strictEqual((yield* Effect.flip(exchange.send(get("/"), quick))).kind, "unreachable")
      }))

    it.effect("a connection cut in the middle of an answer is a cut", () =>
      Effect.gen(function*() {
        const port = yield* rawServer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        const exchange = yield* client({ baseUrl: `http://127.0.0.1:${port}`, insecure: true })
        assert.strictEqual((yield* Effect.flip(exchange.send(get("/"), quick))).kind, "cut")
      }))

    it.effect("a chunked answer cut before its last chunk is a cut, not a short body", () =>
      Effect.gen(function*() {
        const port = yield* rawServer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        const exchange = yield* client({ baseUrl: `http://127.0.0.1:${port}`, insecure: true })
        assert.strictEqual((yield* Effect.flip(exchange.send(get("/"), quick))).kind, "cut")
      }))

    it.effect("a path that HTTP cannot carry is an error, not a defect", () =>
      Effect.gen(function*() {
        const exchange = yield* agentClient(1)
        assert.strictEqual((yield* Effect.flip(exchange.send(get("/a b\n"), quick))).kind, "unreachable")
      }))

    it.effect("plain http needs the insecure option, https needs a CA, and a lone certificate is refused", () =>
      Effect.gen(function*() {
        const { caFile, serverFiles } = yield* Certificates
        const refusal = (config: TlsClient.TlsClientConfig) =>
          Effect.map(Effect.flip(Layer.build(TlsClient.layer(config))), (error) => error.reason)
        const https = { baseUrl: "https://localhost:1", caFile, insecure: false }
        assert.strictEqual(yield* refusal({ baseUrl: "http://localhost:1", insecure: false }), "tls-insecure-url")
        assert.strictEqual(yield* refusal({ ...https, baseUrl: "localhost" }), "tls-url-invalid")
        assert.strictEqual(yield* refusal({ ...https, caFile: undefined }), "tls-ca-missing")
        assert.strictEqual(yield* refusal({ ...https, caFile: serverFiles.key }), "tls-file-invalid")
        assert.strictEqual(yield* refusal({ ...https, caFile: "/nowhere" }), "tls-file-unreadable")
        assert.strictEqual(yield* refusal({ ...https, certFile: serverFiles.cert }), "tls-identity-incomplete")
        assert.strictEqual(yield* refusal({ ...https, keyFile: serverFiles.key }), "tls-identity-incomplete")
      }))

    it.effect("other methods are 405", () =>
      Effect.gen(function*() {
        const { authority } = yield* Certificates
        const { port } = yield* serve(whoami)
        const text = yield* raw(port, authority.cert, "DELETE / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert.match(text, /^HTTP\/1\.1 405 /)
        assert.match(text, /allow: GET, POST/i)
      }))

    it.effect("a sender that never finishes its headers is cut", () =>
      Effect.gen(function*() {
        const { authority } = yield* Certificates
        const { port } = yield* serve(whoami, { limits: { headersMs: 200, requestMs: 300 } })
        assert.match(yield* raw(port, authority.cert, "GET / HTTP/1.1\r\nhost:"), /^HTTP\/1\.1 408 /)
      }))

    it.effect("a defect of a handler is a 500, and the server goes on", () =>
      Effect.gen(function*() {
        const { port } = yield* serve((request) =>
          request.path === "/bug" ? Effect.die("bug") : Effect.succeed(answer("ok"))
        )
        const exchange = yield* agentClient(port)
        assert.strictEqual((yield* exchange.send(get("/bug"), quick)).status, 500)
        assert.strictEqual((yield* exchange.send(get("/"), quick)).status, 200)
      }))

    it.effect("a stop answers parked polls at once through Draining and frees the port", () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const parked = yield* Deferred.make<void>()
        let wake: () => void = () => undefined
        const { context, port } = yield* serve(() =>
          Effect.callback<ExchangeResponse>((resume) => {
            wake = () =>
              resume(Effect.succeed({ status: 503, headers: { "retry-after": "5" }, body: new Uint8Array() }))
            Deferred.doneUnsafe(parked, Effect.void)
          })
        ).pipe(Effect.provideService(Scope.Scope, scope))
        const draining = yield* Effect.provide(Draining, context)
        draining.onBegin(() => wake())
        const exchange = yield* agentClient(port)
        const poll = yield* Effect.forkChild(exchange.send(get("/"), { ...quick, lane: "poll" }))
        yield* Deferred.await(parked)
        const took = yield* Effect.timed(Scope.close(scope, Exit.void))
        const response = yield* Fiber.join(poll)
        assert.strictEqual(response.status, 503)
        assert.strictEqual(response.headers["retry-after"], "5")
        assert.strictEqual(response.headers["connection"], "close")
        assert.isBelow(Duration.toMillis(took[0]), 900)
        assert.strictEqual((yield* Effect.flip(exchange.send(get("/"), quick))).kind, "unreachable")
      }))

    it.effect("a stop cuts a handler that does not end within the grace", () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const parked = yield* Deferred.make<void>()
        const { port } = yield* serve(
          () => Deferred.succeed(parked, undefined).pipe(Effect.andThen(Effect.never)),
          { limits: { shutdownGraceMs: 100 } }
        ).pipe(Effect.provideService(Scope.Scope, scope))
        const exchange = yield* agentClient(port)
        const poll = yield* Effect.forkChild(Effect.flip(exchange.send(get("/"), quick)))
        yield* Deferred.await(parked)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(poll)).kind, "cut")
      }))
  })
})

/** A TCP relay to `port` that notes the connections it carries. */
const countConnections = (port: number, seen: Set<number>) =>
  listening((socket) => {
    seen.add(socket.remotePort ?? 0)
    const upstream = createConnection(port)
    socket.pipe(upstream).pipe(socket)
    socket.on("error", () => upstream.destroy())
    upstream.on("error", () => socket.destroy())
  })

/** Answers every connection with these bytes and closes it. */
const rawServer = (bytes: string) => listening((socket) => socket.once("data", () => socket.end(bytes)))

const listening = (onConnection: (socket: Socket) => void) =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer(onConnection)
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.map((server) => {
    const address = server.address()
    return address !== null && typeof address === "object" ? address.port : 0
  }))

/** What the server writes to these bytes until it closes, or until it has answered once. */
const raw = (port: number, ca: string, bytes: string) =>
  Effect.callback<string>((resume) => {
    const socket = connect({ host: "127.0.0.1", servername: "localhost", port, ca }, () => socket.write(bytes))
    let text = ""
    socket.setEncoding("utf8")
    socket.on("data", (chunk) => {
      text += String(chunk)
      if (text.includes("\r\n\r\n")) resume(Effect.succeed(text))
    })
    socket.on("close", () => resume(Effect.succeed(text)))
    socket.on("error", () => undefined)
    return Effect.sync(() => socket.destroy())
  })
