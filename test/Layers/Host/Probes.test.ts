import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { createServer as createTcpServer, type Server } from "node:net"
import { join } from "node:path"
import * as NodeProbes from "../../../src/Layers/Host/NodeProbes.ts"
import { type ProbeOutcome, Probes } from "../../../src/Layers/Host/Probes.ts"
import * as ProbesMemory from "../../../src/Layers/Host/ProbesMemory.ts"
import { HealthCheck } from "../../../src/Schema/HealthChecks.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { until } from "../../support/until.ts"

/** A check from its declaration, as a file has it. */
const check = (declaration: Record<string, unknown>): HealthCheck =>
  Schema.decodeUnknownSync(HealthCheck)({ mode: "enforce", ...declaration })

const probesOf = (declarationFile: string) =>
  NodeProbes.layer({
    declarationFile,
    evidence: { hostname: "web-1", keyFile: "/nonexistent/key.pub" },
    environment: { PATH: "/usr/bin:/bin", PROBE: "yes" }
  })

const run = (declaration: Record<string, unknown>): Effect.Effect<ProbeOutcome> =>
  Effect.provide(Effect.flatMap(Probes, (probes) => probes.run(check(declaration))), probesOf("/nonexistent"))

const listening = (server: Server, host: string) =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, host, () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () => Effect.sync(() => server.close())
  )

const httpAt = (answer: (request: IncomingMessage, response: ServerResponse) => void) => {
  const server = createServer(answer)
  return Effect.map(
    Effect.acquireRelease(listening(server, "127.0.0.1"), () => Effect.sync(() => server.closeAllConnections())),
    (port) => `http://127.0.0.1:${port}`
  )
}

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}/cwd`)

describe("an http probe", () => {
  it.live("passes on exactly the expected status, and says what it got otherwise", () =>
    Effect.gen(function*() {
      const asked: Array<IncomingMessage> = []
      const url = yield* httpAt((request, response) => {
        asked.push(request)
        response.writeHead(request.url === "/ok" ? 200 : 204).end()
      })
      assert.deepStrictEqual(yield* run({ kind: "http", url: `${url}/ok` }), { status: "pass" })
      assert.deepStrictEqual(yield* run({ kind: "http", url: `${url}/other`, expectStatus: 204 }), { status: "pass" })
      assert.deepStrictEqual(yield* run({ kind: "http", url: `${url}/other` }), {
        status: "fail",
        failureReason: `GET ${url}/other answered 204, expected 200`
      })
      assert.deepStrictEqual(asked.map(({ method }) => method), ["GET", "GET", "GET"])
      for (const { headers } of asked) {
        assert.isUndefined(headers.authorization)
        assert.isUndefined(headers.cookie)
      }
    }))

  it.live("does not follow a redirect", () =>
    Effect.gen(function*() {
      const paths: Array<string | undefined> = []
      const url = yield* httpAt((request, response) => {
        paths.push(request.url)
        response.writeHead(request.url === "/" ? 302 : 200, { location: "/ok" }).end()
      })
      assert.strictEqual((yield* run({ kind: "http", url: `${url}/` })).status, "fail")
      assert.strictEqual((yield* run({ kind: "http", url: `${url}/`, expectStatus: 302 })).status, "pass")
      assert.deepStrictEqual(paths, ["/", "/"])
    }))

  it.live("does not wait for a body that never ends", () =>
    Effect.gen(function*() {
      const url = yield* httpAt((_, response) => void response.writeHead(200).write("more"))
      assert.deepStrictEqual(yield* run({ kind: "http", url }), { status: "pass" })
    }))

  it.live("fails after its time-out when nothing answers, and closes the connection", () =>
    Effect.gen(function*() {
      let closed = false
      const url = yield* httpAt((request) => request.socket.on("close", () => (closed = true)))
      const outcome = yield* run({ kind: "http", url, timeoutSecs: 1 })
      assert.deepStrictEqual(outcome, { status: "fail", failureReason: `GET ${url}: timed out after 1 s` })
      yield* until(() => closed)
    }))

  it.live("fails with the reason when nothing listens", () =>
    Effect.gen(function*() {
      const outcome = yield* run({ kind: "http", url: "http://127.0.0.1:1/" })
      assert.strictEqual(outcome.status, "fail")
      assert.match(outcome.failureReason ?? "", /ECONNREFUSED/)
    }))

  it.live("fails on a certificate that nobody vouches for, or on plain text where TLS was expected", () =>
    Effect.gen(function*() {
      const url = yield* httpAt((_, response) => response.end())
      const outcome = yield* run({ kind: "http", url: url.replace("http:", "https:") })
      assert.strictEqual(outcome.status, "fail")
    }))

  it.live("is closed when it is interrupted", () =>
    Effect.gen(function*() {
      let open = false
      let closed = false
      const url = yield* httpAt((request) => {
        open = true
        request.socket.on("close", () => (closed = true))
      })
      const fiber = yield* Effect.forkChild(run({ kind: "http", url }))
      yield* until(() => open)
      yield* Fiber.interrupt(fiber)
      yield* until(() => closed)
    }))
})

describe("a tcp probe", () => {
  it.live("passes when a connection opens, by IPv4 and by IPv6", () =>
    Effect.gen(function*() {
      const port = yield* listening(createTcpServer((socket) => socket.end()), "127.0.0.1")
      assert.deepStrictEqual(yield* run({ kind: "tcp", port }), { status: "pass" })
      const port6 = yield* listening(createTcpServer((socket) => socket.end()), "::1")
      assert.deepStrictEqual(yield* run({ kind: "tcp", host: "::1", port: port6 }), { status: "pass" })
    }))

  it.live("fails with the reason when it does not", () =>
    Effect.gen(function*() {
      const outcome = yield* run({ kind: "tcp", port: 1 })
      assert.match(outcome.failureReason ?? "", /^connecting to 127\.0\.0\.1 port 1: .*ECONNREFUSED/)
      const unknown = yield* run({ kind: "tcp", host: "nixfleet.invalid", port: 80 })
      assert.strictEqual(unknown.status, "fail")
    }))

  it.live("fails after its time-out on a host that does not answer", () =>
    Effect.gen(function*() {
      // An address of TEST-NET-1: routed nowhere. Some networks say so at once, which is a failure as well.
      const outcome = yield* run({ kind: "tcp", host: "192.0.2.1", port: 80, connectTimeoutSecs: 1 })
      assert.strictEqual(outcome.status, "fail")
      assert.match(outcome.failureReason ?? "", /^connecting to 192\.0\.2\.1 port 80: /)
    }))
})

describe("an exec probe", () => {
  const sh = (script: string, more: Record<string, unknown> = {}) =>
    run({ kind: "exec", command: ["sh", "-c", script], ...more })

  it.live("passes on exit 0", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* sh("exit 0"), { status: "pass" })
    }))

  it.live("fails with the last three lines of stderr, newest first", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* sh("for i in 1 2 3 4; do echo line $i >&2; done; echo out; exit 3"), {
        status: "fail",
        failureReason: "exited with 3: line 4 | line 3 | line 2"
      })
    }))

  it.live("cuts a long reason at 512 bytes, between characters", () =>
    Effect.gen(function*() {
      const { failureReason } = yield* sh(
        "head -c 100000 /dev/zero | tr '\\0' x >&2; printf 'ä%.0s' $(seq 400) >&2; exit 1"
      )
      assert.match(failureReason ?? "", /^exited with 1: x+ä*\.\.\.\[truncated\]$/)
      assert.isAtMost(Buffer.byteLength(failureReason ?? ""), 512 + "...[truncated]".length)
    }))

  it.live("has nothing on stdin, an environment of its own, and / as its directory", () =>
    Effect.gen(function*() {
      const script = "env >&2; pwd >&2; cat >&2; exit 1"
      const { failureReason } = yield* run({
        kind: "exec",
        command: ["sh", "-c", `(${script}) 2>&1 | sort | tr '\\n' ' ' >&2; exit 1`]
      })
      assert.match(
        failureReason ?? "",
        /^exited with 1: \/ (OLDPWD=\S+ )?PATH=\/usr\/bin:\/bin PROBE=yes PWD=\/( _=\S+)?$/
      )
    }))

  it.live("names the signal, and is inconclusive when its program cannot be started", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* sh("kill -9 $$")).failureReason, "ended by SIGKILL")
      const outcome = yield* run({ kind: "exec", command: ["/nonexistent/program"] })
      assert.strictEqual(outcome.status, "inconclusive")
      assert.match(outcome.failureReason ?? "", /^could not be started: .*ENOENT/)
    }))

  it.live("is killed with its children after its time-out", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const pids = join(directory, "pids")
      const outcome = yield* sh(`trap '' TERM; echo waiting >&2; sleep 60 & echo $$ $! >${pids}; wait`, {
        timeoutSecs: 1
      })
      assert.deepStrictEqual(outcome, { status: "fail", failureReason: "timed out after 1 s: waiting" })
      const all = readFileSync(pids, "utf8").trim().split(" ").map(Number)
      assert.strictEqual(all.length, 2)
      yield* until(() => !all.some(isAlive))
    }))

  it.live("is killed with its children when it is interrupted", () =>
    Effect.gen(function*() {
      const pids = join(yield* temporaryDirectory, "pids")
      const fiber = yield* Effect.forkChild(sh(`sleep 60 & echo $$ $! >${pids}.new; mv ${pids}.new ${pids}; wait`))
      yield* until(() => existsSync(pids))
      yield* Fiber.interrupt(fiber)
      const all = readFileSync(pids, "utf8").trim().split(" ").map(Number)
      yield* until(() => !all.some(isAlive))
    }))

  it.live("leaves nothing behind when it passes, and does not wait for it", () =>
    Effect.gen(function*() {
      const pid = join(yield* temporaryDirectory, "pid")
      assert.deepStrictEqual(yield* sh(`sleep 60 & echo $! >${pid}; exit 0`, { timeoutSecs: 5 }), { status: "pass" })
      const left = Number(readFileSync(pid, "utf8"))
      yield* until(() => !isAlive(left))
    }))

  it.live("does not wait for a process that left the group and holds stderr", () =>
    Effect.gen(function*() {
      const pid = join(yield* temporaryDirectory, "pid")
      const outcome = yield* sh(`setsid sh -c 'echo $$ >${pid}; exec sleep 60' & sleep 0.3; echo why >&2; exit 1`)
      process.kill(Number(readFileSync(pid, "utf8")), "SIGKILL")
      assert.deepStrictEqual(outcome, { status: "fail", failureReason: "exited with 1: why" })
    }))
})

describe("the declaration of probes", () => {
  const declaredBy = (content: string | Uint8Array | undefined) =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "health-checks.json")
      if (content !== undefined) writeFileSync(file, content)
      return yield* Effect.provide(Effect.flatMap(Probes, ({ declared }) => declared), probesOf(file))
    })

  it.live("of an absent file is no probe", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* declaredBy(undefined), { _tag: "Declared", checks: {} })
    }))

  it.live("fills in what may be left out", () =>
    Effect.gen(function*() {
      const declared = yield* declaredBy(JSON.stringify({
        web: { kind: "http", mode: "enforce", url: "http://127.0.0.1:80/" },
        db: { kind: "tcp", mode: "observe", port: 5432 },
        disk: { kind: "exec", mode: "disabled", command: ["df"], intervalSeconds: 1, runOnce: true, timeoutSecs: 2 }
      }))
      const common = { intervalSeconds: 30, runOnce: false, onBaselineFailure: "hold" as const }
      assert.deepStrictEqual(declared, {
        _tag: "Declared",
        checks: {
          web: {
            kind: "http",
            mode: "enforce",
            ...common,
            url: "http://127.0.0.1:80/",
            expectStatus: 200,
            timeoutSecs: 10
          },
          db: { kind: "tcp", mode: "observe", ...common, host: "127.0.0.1", port: 5432, connectTimeoutSecs: 5 },
          disk: {
            kind: "exec",
            mode: "disabled",
            command: ["df"],
            ...common,
            intervalSeconds: 1,
            runOnce: true,
            timeoutSecs: 2
          }
        }
      })
    }))

  it.live("is read anew each time", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "health-checks.json")
      yield* Effect.gen(function*() {
        const { declared } = yield* Probes
        assert.strictEqual((yield* declared)._tag, "Declared")
        writeFileSync(file, "{")
        assert.strictEqual((yield* declared)._tag, "Invalid")
        rmSync(file)
        assert.strictEqual((yield* declared)._tag, "Declared")
      }).pipe(Effect.provide(probesOf(file)))
    }))

  const tcp = `{"kind":"tcp","mode":"enforce","port":80}`
  it.live.each<[string, string | Uint8Array, RegExp]>([
    ["empty", "", /not JSON/],
    ["cut short", `{"a":{"kind":"tcp"`, /not JSON/],
    ["a list", "[]", /Expected object/],
    ["null", "null", /Expected object/],
    ["one bad entry among good ones", `{"good":${tcp},"bad":{"kind":"tcp","mode":"enforce"}}`, /"bad"/],
    ["the name of the signed health gate", `{"healthGate.systemdFailedUnits":${tcp}}`, /which is taken/],
    [
      "a policy for failures before the switch that is none",
      `{"a":{${tcp.slice(1, -1)},"onBaselineFailure":"pass"}}`,
      /"a"/
    ],
    ["a systemd probe of nothing", `{"a":{"kind":"systemd","mode":"enforce"}}`, /expected units, or maxFailedUnits/],
    ["a pattern of units", `{"a":{"kind":"systemd","mode":"enforce","units":["*.service"]}}`, /name of a unit/],
    ["an option as unit", `{"a":{"kind":"systemd","mode":"enforce","units":["--help.service"]}}`, /name of a unit/],
    ["a unit without its type", `{"a":{"kind":"systemd","mode":"enforce","units":["nginx"]}}`, /name of a unit/],
    ["failed units below none", `{"a":{"kind":"systemd","mode":"enforce","maxFailedUnits":-1}}`, /"maxFailedUnits"/],
    ["evidence of nothing", `{"a":{"kind":"evidence","mode":"enforce"}}`, /either framework or controls/],
    ["an unknown kind", `{"a":{"kind":"icmp","mode":"enforce"}}`, /"a"/],
    ["an unknown mode", `{"a":{"kind":"tcp","mode":"maybe","port":80}}`, /"a"/],
    ["a port as text", `{"a":{"kind":"tcp","mode":"enforce","port":"80"}}`, /"port"/],
    ["port 0", `{"a":{"kind":"tcp","mode":"enforce","port":0}}`, /"port"/],
    ["a misspelt field", `{"a":{"kind":"tcp","mode":"enforce","port":80,"prot":1}}`, /"prot"/],
    ["a command as text", `{"a":{"kind":"exec","mode":"enforce","command":"true"}}`, /"command"/],
    ["an empty command", `{"a":{"kind":"exec","mode":"enforce","command":[]}}`, /"command"/],
    ["a command with NUL", `{"a":{"kind":"exec","mode":"enforce","command":["a\\u0000b"]}}`, /NUL/],
    ["another scheme", `{"a":{"kind":"http","mode":"enforce","url":"file:///etc/passwd"}}`, /http:\/\//],
    [
      "credentials in the address",
      `{"a":{"kind":"http","mode":"enforce","url":"http://u:p@h/"}}`,
      /without user and password/
    ],
    ["an address that is none", `{"a":{"kind":"http","mode":"enforce","url":"http://h:99999/"}}`, /can be parsed/],
    ["no time to answer", `{"a":{"kind":"exec","mode":"enforce","command":["a"],"timeoutSecs":0}}`, /"timeoutSecs"/],
    ["the same probe twice", `{"a":${tcp},"a":${tcp}}`, /"a" twice/],
    ["a probe without a name", `{"":${tcp}}`, /.*/],
    ["a name with a line break", `{"a\\nb":${tcp}}`, /.*/],
    ["not UTF-8", new Uint8Array([0x7b, 0xff, 0x7d]), /not UTF-8/],
    ["beyond a megabyte", `{"a":${tcp}${" ".repeat(1_048_576)}}`, /larger than/],
    ["deeper than any reader goes", "[".repeat(100_000), /not JSON/],
    [
      "more probes than an event can list",
      `{${Array.from({ length: 1025 }, (_, i) => `"p${i}":${tcp}`).join(",")}}`,
      /1023/
    ]
  ])("is refused whole when it is %s", ([, content, problem]) =>
    Effect.gen(function*() {
      const declared = yield* declaredBy(content)
      assert.strictEqual(declared._tag, "Invalid")
      assert.match(declared._tag === "Invalid" ? declared.problem : "", problem)
      assert.match(declared._tag === "Invalid" ? declared.problem : "", /health-checks\.json: /)
    }))

  it.live("that names a probe __proto__ is a probe or a refusal, never nothing", () =>
    Effect.gen(function*() {
      const declared = yield* declaredBy(`{"__proto__":${tcp}}`)
      assert.isTrue(declared._tag === "Invalid" || Object.keys(declared.checks).length === 1)
    }))

  it.live("that cannot be read is refused, never empty", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      mkdirSync(join(directory, "health-checks.json"))
      const declared = yield* Effect.provide(
        Effect.flatMap(Probes, (probes) => probes.declared),
        probesOf(join(directory, "health-checks.json"))
      )
      assert.match(declared._tag === "Invalid" ? declared.problem : "", /not a regular file/)
    }))

  it.live("that is a fifo does not hang the agent", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "health-checks.json")
      execFileSync("mkfifo", [file])
      const declared = yield* Effect.provide(Effect.flatMap(Probes, (probes) => probes.declared), probesOf(file))
      assert.match(declared._tag === "Invalid" ? declared.problem : "", /not a regular file/)
    }))
})

describe("scripted probes", () => {
  it.effect("take the scripted time and count their runs, also across agents", () =>
    Effect.gen(function*() {
      const state = new ProbesMemory.MemoryProbes({}, (_, nth) => ({
        durationMs: 500,
        outcome: nth < 2 ? { status: "pass" } : { status: "fail", failureReason: `run ${nth}` }
      }))
      const once = Effect.provide(
        Effect.flatMap(Probes, (probes) => probes.run(check({ kind: "tcp", port: 80 }))),
        ProbesMemory.layer(state)
      )
      const first = yield* Effect.forkChild(once)
      yield* TestClock.adjust(499)
      assert.isUndefined(first.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(first), { status: "pass" })
      const second = yield* Effect.forkChild(once)
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(yield* Fiber.join(second), { status: "fail", failureReason: "run 2" })
    }))
})
