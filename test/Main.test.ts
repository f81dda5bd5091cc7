import { assert, describe, layer } from "@effect/vitest"
import { Effect } from "effect"
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { trustJson } from "./support/artifacts.ts"
import { Certificates } from "./support/certificates.ts"
import { launch, messageOf } from "./support/controlPlaneProcess.ts"
import { temporaryDirectory } from "./support/directories.ts"
import { eventually, freePort } from "./support/fleet.ts"
import { assertLines } from "./support/logLines.ts"

const main = join(import.meta.dirname, "../src/Main.ts")

/** Runs it to its end. `out`: what it said on standard output, as text. */
const run = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) {
  const program = yield* launch(args, { PATH: process.env["PATH"] ?? "", ...env }, main)
  const { code } = yield* program.ended
  return { code, errors: program.errors(), out: program.log.map(messageOf).join("\n") }
})

/** A host on which everything is right, and its configuration as flags. */
const host = Effect.gen(function*() {
  const { authority, caFile, write } = yield* Certificates
  const directory = yield* temporaryDirectory
  const at = (name: string) => join(directory, name)
  const files = write("edge-07", authority.agent("edge-07"))
  mkdirSync(at("archives"))
  writeFileSync(at("trust.json"), JSON.stringify(trustJson()))
  writeFileSync(at("health.json"), JSON.stringify({ web: { kind: "tcp", mode: "enforce", port: 80 } }))
  const flags = {
    "control-plane-url": `https://localhost:${yield* freePort}`,
    "machine-id": "edge-07",
    "trust-file": at("trust.json"),
    "ca-cert": caFile,
    "client-cert": files.cert,
    "client-key": files.key,
    "state-dir": at("state"),
    "system-dir": at("system"),
    "archive-source": at("archives"),
    "health-checks-file": at("health.json")
  }
  const args = (changed: Partial<typeof flags> = {}) =>
    Object.entries({ ...flags, ...changed }).flatMap(([name, value]) => [`--${name}`, value])
  return { at, args, flags }
})

describe("the command line", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    for (
      const [title, args] of [
        ["an unknown flag", ["run", "--nope"]],
        ["an unknown command", ["frobnicate"]],
        ["a flag without its value", ["check", "--machine-id"]]
      ] as const
    ) {
      it.effect(`${title} is a usage error, exit 64`, () =>
        Effect.gen(function*() {
          const { code, errors } = yield* run(args)
          assert.strictEqual(code, 64)
          assert.include(errors, "ERROR")
        }))
    }

    it.effect("help and version exit 0, and name every option", () =>
      Effect.gen(function*() {
        const help = yield* run(["--help"])
        assert.strictEqual(help.code, 0)
        assert.include(help.out, "--control-plane-url")
        assert.include(help.out, "--sustained-failure-secs")
        assert.strictEqual((yield* run(["--version"])).code, 0)
      }))

    it.effect("a wrong configuration is exit 78, every problem named with its source", () =>
      Effect.gen(function*() {
        const { at } = yield* host
        writeFileSync(at("agent.json"), JSON.stringify({ machineID: "edge-07", trustFile: at("trust.json") }))
        const { code, errors } = yield* run(["--config", at("agent.json"), "--heartbeat-secs", "often"], {
          NIXFLEET_AGENT_DRAIN_SECS: "0",
          NIXFLEET_AGENT_CP_URL: "http://127.0.0.1:1"
        })
        assert.strictEqual(code, 78)
        for (
          const text of [
            `file ${at("agent.json")} key machineID: unknown key`,
            "flag --heartbeat-secs: expected a number",
            "environment NIXFLEET_AGENT_DRAIN_SECS: Expected a value between 0.05 and 2592000",
            "flag --machine-id: required, and not given"
          ]
        ) assert.include(errors, text)
      }))

    it.effect("the file may be named by the environment", () =>
      Effect.gen(function*() {
        const { errors } = yield* run(["check"], { NIXFLEET_AGENT_CONFIG: "/nonexistent/agent.json" })
        assert.include(errors, "file /nonexistent/agent.json: cannot be read")
      }))
  })
})

describe("check", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("says what is right, exit 0, and changes nothing", () =>
      Effect.gen(function*() {
        const { args, at } = yield* host
        const { code, errors, out } = yield* run(["check", ...args()])
        assert.strictEqual(code, 0, errors)
        for (
          const text of [
            "ok     certificate of agent-edge-07.",
            "release keys current",
            `${at("state")} will be made`,
            `${at("health.json")}: 1 health checks (flag --health-checks-file)`
          ]
        ) assert.include(out, text)
        assert.notInclude(out, "wrong")
      }))

    it.effect("names everything that is wrong at once, each with its source, exit 78", () =>
      Effect.gen(function*() {
        const { args, at } = yield* host
        writeFileSync(
          at("trust.json"),
          JSON.stringify(trustJson({ current: { algorithm: "ed25519", public: "AAAA" } }))
        )
        writeFileSync(at("health.json"), "{\"web\": {\"kind\": \"tcp\", \"mode\": \"sometimes\"}}")
        mkdirSync(at("state"))
        chmodSync(at("state"), 0o777)
        const { code, errors } = yield* run([
          "check",
          ...args({ "machine-id": "edge-08", "archive-source": at("nowhere"), "system-dir": "/proc/nixfleet" })
        ])
        assert.strictEqual(code, 78)
        for (
          const text of [
            "flag --trust-file: ",
            "ciReleaseKey.current: malformed ed25519 key",
            "flag --client-cert: the certificate names agent-edge-07.",
            "flag --state-dir: others may write",
            "flag --archive-source: ",
            "flag --health-checks-file: "
          ]
        ) assert.include(errors, text)
      }))

    for (
      const [title, content] of [
        ["truncated", "{\"schemaVersion\": 1"],
        ["of another version", JSON.stringify({ ...trustJson(), schemaVersion: 2 })],
        ["with a misspelt field", JSON.stringify({ ...trustJson(), ciReleaseKeys: {} })],
        ["without a key", JSON.stringify(trustJson({}))]
      ] as const
    ) {
      it.effect(`refuses a trust file ${title}`, () =>
        Effect.gen(function*() {
          const { args, at } = yield* host
          writeFileSync(at("trust.json"), content)
          const { code, errors } = yield* run(["check", ...args()])
          assert.strictEqual(code, 78)
          assert.include(errors, `flag --trust-file: ${at("trust.json")}`)
        }))
    }

    it.effect("refuses a key that does not belong to the certificate", () =>
      Effect.gen(function*() {
        const { authority, write } = yield* Certificates
        const { args } = yield* host
        const other = write("other", authority.agent("other"))
        const { code, errors } = yield* run(["check", ...args({ "client-key": other.key })])
        assert.strictEqual(code, 78)
        assert.include(errors, "is not the key of the certificate")
      }))
  })
})

describe("run", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("logs one JSON object a line: with its part of the program, and its reason when something is wrong", () =>
      Effect.gen(function*() {
        const { args } = yield* host
        const program = yield* launch(["run", ...args()], {}, main)
        const line = yield* program.line((found) => found["reason"] === "control-plane-unreachable")
        assert.strictEqual(line["target"], "agent_heartbeat")
        program.process.kill("SIGTERM")
        assert.strictEqual((yield* program.ended).code, 0)
        assert.strictEqual(program.errors(), "")
        assertLines(program.log)
        const tasks = program.log.filter(({ target }) => target === "shutdown").map(({ task }) => task)
        assert.sameMembers(tasks, [
          "activation",
          "advance_ticker",
          "cert_renewal",
          "heartbeat",
          "longpoll",
          "manifest_poll",
          "outbound",
          "probe",
          "reducer",
          undefined
        ])
      }))

    it.effect("logs from the level that was asked for", () =>
      Effect.gen(function*() {
        const { args } = yield* host
        const verbose = yield* launch(["run", ...args(), "--log-level", "debug", "--advance-secs", "0.2"], {}, main)
        yield* verbose.line(({ level, target }) => level === "debug" && target === "agent_advance_ticker")
        verbose.process.kill("SIGKILL")
        yield* verbose.ended
        const terse = yield* launch(["run", ...args()], { NIXFLEET_AGENT_LOG_LEVEL: "warn" }, main)
        yield* terse.line((found) => found["reason"] === "control-plane-unreachable")
        assert.deepStrictEqual([...new Set(terse.log.map(({ level }) => level))], ["warn"])
      }))

    it.effect("logs for people when it is asked to, without colours into a pipe", () =>
      Effect.gen(function*() {
        const { args } = yield* host
        const program = yield* launch(["run", ...args(), "--log-format", "pretty"], {}, main)
        const line = yield* program.line((found) => messageOf(found).includes("reason=control-plane-unreachable"))
        assert.match(messageOf(line), /^\d\d:\d\d:\d\d\.\d{3}Z WARN  agent_heartbeat .* hostname=edge-07 /)
      }))

    it.effect("goes on, and stops with 0, when nobody reads its log any more", () =>
      Effect.gen(function*() {
        const { args, at } = yield* host
        const program = yield* launch(["run", ...args()], {}, main)
        yield* program.line((found) => messageOf(found) === "the agent starts")
        program.process.stdout?.destroy()
        // Behind the lock and the journal, so that workers run, and write lines into the closed pipe.
        yield* eventually("the journal", () => existsSync(at("state/journal.db")))
        yield* Effect.sleep("1 second")
        assert.isNull(program.process.exitCode)
        program.process.kill("SIGTERM")
        assert.strictEqual((yield* program.ended).code, 0)
        assert.strictEqual(program.errors(), "")
      }))

    it.effect("without a command is the same", () =>
      Effect.gen(function*() {
        const { args } = yield* host
        const program = yield* launch(args(), {}, main)
        yield* program.line((found) => messageOf(found) === "the agent starts")
        program.process.kill("SIGKILL")
      }))

    for (
      const [title, changed, message] of [
        [
          "whose certificate file is missing",
          { "client-cert": "/nonexistent.pem" },
          "there is no certificate at /nonexistent.pem"
        ],
        ["whose state directory is a file", { "state-dir": "/etc/hostname" }, "/etc/hostname"]
      ] as const
    ) {
      it.effect(`does not start on a host ${title}, exit 78`, () =>
        Effect.gen(function*() {
          const { args } = yield* host
          const { code, errors } = yield* run(["run", ...args(changed)])
          assert.strictEqual(code, 78)
          assert.include(errors, message)
        }))
    }

    it.effect("ends with a failure when a part of it ends", () =>
      Effect.gen(function*() {
        const { args, at } = yield* host
        const program = yield* launch(["run", ...args(), "--advance-secs", "0.2"], {}, main)
        yield* program.line((found) => found["reason"] === "control-plane-unreachable")
        // The journal is taken away under the reducer: the next commit fails for a reason that nobody can judge.
        const journal = new DatabaseSync(at("state/journal.db"), { timeout: 5_000 })
        journal.exec("DROP TABLE meta")
        journal.close()
        // The first closure that is ever seen is a fact that the journal keeps.
        const closure = `${"a".repeat(40)}-old`
        mkdirSync(at(`system/store/${closure}`), { recursive: true })
        symlinkSync(at(`system/store/${closure}`), at("system/current-system"))
        const { code } = yield* program.ended.pipe(Effect.timeout("20 seconds"))
        assert.strictEqual(code, 1)
        assertLines(program.log)
        assert.strictEqual(program.errors(), "")
        const ended = program.log.find(({ reason }) => reason === "worker-ended")
        assert.deepStrictEqual([ended?.["level"], ended?.["target"], ended?.["task"]], ["error", "shutdown", "reducer"])
      }))
  })
})
