import { assert, describe, it, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { ExchangeHandler } from "../../src/Layers/Net/Exchange.ts"
import { eventHeader, eventJson, eventLine } from "../../src/Operator/EventLines.ts"
import { Certificates } from "../support/certificates.ts"
import { nixfleet, temporaryDirectory } from "../support/operator.ts"
import { connection, reply } from "../support/operatorConnection.ts"

vi.setConfig({ testTimeout: 60_000 })

const id = "stable@aa11"
const main = join(import.meta.dirname, "../../src/Operator/Main.ts")

interface Row {
  readonly seq: number
  readonly [name: string]: unknown
}

const rowOf = (seq: number, overrides: object = {}): Row => ({
  seq,
  ts: "2026-06-01T08:00:00Z",
  kind: "agent_event",
  host: "web-1",
  payload: { kind: "ProbeResult", probeName: "web", status: "pass" },
  ...overrides
})
const rowsTo = (last: number): ReadonlyArray<Row> => Array.from({ length: last }, (_, index) => rowOf(index + 1))

/** A control plane with one rollout; a test changes what it says, at any time, or after so many looks. */
class Script {
  rows: ReadonlyArray<Row> = rowsTo(3)
  state = "Active"
  logId = "log-1"
  pageSize = 1000
  /** Called before each answer; an answer of its own is given instead. */
  before: (path: string) => ReturnType<typeof reply> | undefined = () => undefined
  readonly asked: Array<string> = []

  readonly handler: ExchangeHandler = ({ path }) => {
    this.asked.push(path)
    const own = this.before(path)
    if (own !== undefined) return own
    const url = new URL(path, "https://localhost")
    switch (url.pathname) {
      case `/v1/rollouts/${id}/lifecycle`:
        return reply(200, {
          rolloutId: id,
          state: this.state,
          supersededAt: null,
          supersededBy: this.state === "Superseded" ? "stable@bb22" : null,
          terminalAt: this.state === "Terminal" ? "2026-06-01T08:00:00Z" : null
        })
      case `/v1/rollouts/${id}/events`: {
        const after = Number(url.searchParams.get("after_seq"))
        const events = this.rows.filter(({ seq }) => seq > after).slice(0, this.pageSize)
        return reply(200, { rollout_id: id, log_id: this.logId, events })
      }
      default:
        return reply(404, { error: "unknown" })
    }
  }
}

const scripted = Effect.gen(function*() {
  const script = new Script()
  const { flags } = yield* connection("alice", script.handler)
  const events = (...args: ReadonlyArray<string>) => nixfleet(["rollout", "events", id, ...args, ...flags])
  return { script, flags, events }
})

const seqs = (out: string): ReadonlyArray<number> =>
  out.split("\n").filter((line) => line !== "").map((line): number => JSON.parse(line).seq)

/** Everything that a terminal would obey, but for the ends of lines. */
const obeyed = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/

describe("a line of an event", () => {
  const what = (kind: string, payload: unknown, host: string | null = "web-1") =>
    eventLine({ seq: 7, ts: "2026-06-01T08:00:00Z", kind, host, payload } as never)
  it.each<[string, unknown, string]>([
    ["agent_event", { kind: "Converged" }, "Converged"],
    ["agent_event", { kind: "ActivationFailed", exitCode: 3 }, "ActivationFailed exitCode 3"],
    ["agent_event", { kind: "Converged", refused: "wrong-attempt" }, "Converged refused wrong-attempt"],
    ["agent_event", { kind: "ProbeResult", probeName: "web", status: "fail" }, "ProbeResult web fail"],
    ["plan_action", { action: "RevokeDispatch", because: "halted" }, "RevokeDispatch halted"],
    ["rollout_event", { event: "WaveAdvanced", fromWave: 0, toWave: 1 }, "WaveAdvanced fromWave 0 toWave 1"],
    ["effect", { effect: "OverlayEnded", because: "an event" }, "OverlayEnded an event"],
    ["gate_decision", { gate: "quarantine", because: "bad" }, "quarantine bad"],
    [
      "verify_outcome",
      { artifact: "fleet.resolved", outcome: "refused", reason: "stale" },
      "fleet.resolved refused stale"
    ],
    ["agent_event", null, ""],
    ["agent_event", ["kind"], ""],
    ["agent_event", { kind: { deep: true } }, ""],
    ["agent_event", { kind: "x".repeat(1000) }, "x".repeat(200)]
  ])("%s %j", (kind, payload, text) =>
    assert.strictEqual(
      what(kind, payload),
      `     7  2026-06-01T08:00:00Z      ${kind.padEnd(13)}  web-1             ${text}`.trimEnd()
    ))

  it("the header stands above its columns", () => {
    const line = what("gate_decision", { gate: "quarantine" }, null)
    assert.strictEqual(eventHeader.indexOf("WHAT"), line.indexOf("quarantine"))
    assert.strictEqual(eventHeader.indexOf("TS"), line.indexOf("2026"))
  })

  it("nothing that a terminal obeys is printed raw, and JSON stays the same JSON", () => {
    const hostile = "a\u001b[2J\u0007\u009b\u202e\u2028\r\nb"
    assert.notMatch(what("agent_event", { kind: hostile }, hostile), /[\u0000-\u001f\u007f-\u009f\u2028\u202e]/)
    const json = eventJson({ hostile })
    assert.notMatch(json, /[\u0000-\u001f\u007f-\u009f\u2028\u202e]/)
    assert.deepStrictEqual(JSON.parse(json), { hostile })
  })
})

describe("rollout events", () => {
  layer(Certificates.layer, { excludeTestServices: true })((live) => {
    live.effect("shows every event of every page, in order, each once", () =>
      Effect.gen(function*() {
        const { events, script } = yield* scripted
        script.rows = rowsTo(7)
        script.pageSize = 3
        const shown = yield* events()
        assert.strictEqual(shown.code, 0, shown.err)
        assert.deepStrictEqual(
          shown.out.split("\n").map((line) => line.trim().split(/\s+/)[0]),
          ["SEQ", "1", "2", "3", "4", "5", "6", "7"]
        )
        assert.deepStrictEqual(seqs((yield* events("--json")).out), [1, 2, 3, 4, 5, 6, 7])
      }))

    live.effect("JSON lines have what a newer control plane adds", () =>
      Effect.gen(function*() {
        const { events, script } = yield* scripted
        script.rows = [rowOf(1, { fromTheFuture: 1 })]
        assert.deepStrictEqual(JSON.parse((yield* events("--json")).out), script.rows[0])
      }))

    live.effect("a rollout that nobody knows is an error, not an empty log", () =>
      Effect.gen(function*() {
        const { flags } = yield* scripted
        const unknown = yield* nixfleet(["rollout", "events", "stable@ff", "--json", ...flags])
        assert.deepStrictEqual([unknown.code, unknown.out], [1, ""])
        assert.include(unknown.err, "there is no such thing (404)")
        assert.strictEqual((yield* nixfleet(["rollout", "events", "../hosts", ...flags])).code, 64)
      }))

    live.effect("control characters of a lying control plane never reach the terminal", () =>
      Effect.gen(function*() {
        const { events, script } = yield* scripted
        const hostile = "\u001b]0;x\u0007\u009b2J\u202e"
        script.rows = [rowOf(1, { host: hostile, ts: hostile, payload: { kind: hostile, [hostile]: hostile } })]
        script.state = hostile
        for (const args of [[], ["--json"], ["--export", "-"]]) {
          const shown = yield* events(...args)
          assert.strictEqual(shown.code, 0, shown.err)
          assert.notMatch(shown.out + shown.err, obeyed)
        }
        script.before = () => reply(500, hostile)
        assert.notMatch((yield* events()).err, /\u001b\]|\u009b|\u202e/)
      }))

    const lies: ReadonlyArray<readonly [string, unknown, string]> = [
      ["repeats itself", { rollout_id: id, events: [rowOf(1), rowOf(1)] }, "event 1 comes after event 1"],
      ["goes back", { rollout_id: id, events: [rowOf(2), rowOf(1)] }, "event 1 comes after event 2"],
      ["starts before the cursor", { rollout_id: id, events: [rowOf(0)] }, "event 0 comes after event 0"],
      ["speaks of another rollout", { rollout_id: "stable@bb", events: [] }, "about another rollout"],
      ["is cut in the middle", JSON.stringify({ rollout_id: id, events: [rowOf(1)] }).slice(0, -5), "not JSON"],
      ["has another shape", { rollout_id: id, events: [{ seq: "1" }] }, "not the expected view"],
      ["has no events", { rollout_id: id }, "not the expected view"]
    ]
    for (const [name, page, message] of lies) {
      live.effect(`a page that ${name} is refused, and exports nothing`, () =>
        Effect.gen(function*() {
          const { events, script } = yield* scripted
          script.before = (path) => path.includes("/events") ? reply(200, page) : undefined
          const directory = yield* temporaryDirectory
          const file = join(directory, "events.jsonl")
          for (const args of [["--export", file], ["--follow"], []]) {
            const refused = yield* events(...args)
            assert.strictEqual(refused.code, 1, refused.err)
            assert.include(refused.err, message)
          }
          assert.isFalse(existsSync(file))
          assert.isFalse(existsSync(join(directory, ".tmp-events.jsonl")))
        }))
    }

    live.effect("exports all events as JSON lines into a new private file", () =>
      Effect.gen(function*() {
        const { events, script } = yield* scripted
        script.rows = rowsTo(2500)
        const file = join(yield* temporaryDirectory, "events.jsonl")
        const exported = yield* events("--export", file)
        assert.deepStrictEqual([exported.code, exported.out], [0, ""], exported.err)
        assert.include(exported.err, `wrote 2500 events into ${file}`)
        assert.strictEqual(statSync(file).mode & 0o777, 0o600)
        assert.deepStrictEqual(seqs(readFileSync(file, "utf8")), script.rows.map(({ seq }) => seq))
        assert.deepStrictEqual(seqs((yield* events("--export", "-")).out), script.rows.map(({ seq }) => seq))
      }))

    live.effect("a file that is there is kept, and replaced only by force", () =>
      Effect.gen(function*() {
        const { events, script } = yield* scripted
        const file = join(yield* temporaryDirectory, "events.jsonl")
        writeFileSync(file, "mine")
        const refused = yield* events("--export", file)
        assert.strictEqual(refused.code, 1)
        assert.include(refused.err, "--force replaces it")
        assert.strictEqual(readFileSync(file, "utf8"), "mine")
        assert.deepStrictEqual(script.asked, [], "nothing is asked for what cannot be written")
        // One that appears while the events are read is kept too.
        const late = `${file}.late`
        script.before = () => (writeFileSync(late, "theirs"), undefined)
        assert.strictEqual((yield* events("--export", late)).code, 1)
        assert.strictEqual(readFileSync(late, "utf8"), "theirs")
        assert.strictEqual((yield* events("--export", file, "--force")).code, 0)
        assert.deepStrictEqual(seqs(readFileSync(file, "utf8")), [1, 2, 3])
        assert.strictEqual(statSync(file).mode & 0o777, 0o600)
        const nowhere = yield* events("--export", "/nowhere/events.jsonl")
        assert.strictEqual(nowhere.code, 1)
        assert.include(nowhere.err, "cannot write /nowhere/events.jsonl")
      }))

    live.effect("options that contradict each other are usage errors", () =>
      Effect.gen(function*() {
        const { events } = yield* scripted
        for (const args of [["--export", "x", "--follow"], ["--force"]]) {
          assert.strictEqual((yield* events(...args)).code, 64, args.join(" "))
        }
      }))

    const ends: ReadonlyArray<readonly [string, number, string]> = [
      ["Terminal", 0, "has converged"],
      ["Failed", 3, "has failed"],
      ["Reverted", 3, "was rolled back"],
      ["Superseded", 3, "was superseded by stable@bb22 before it converged"]
    ]
    for (const [state, code, text] of ends) {
      live.effect(
        `--follow ends by itself when the rollout is ${state}, exit ${code}, with its last event`,
        () =>
          Effect.gen(function*() {
            const { events, script } = yield* scripted
            let looks = 0
            script.before = (path) => {
              if (!path.includes("/lifecycle")) return undefined
              looks += 1
              if (looks === 2) {
                script.state = state
                // Rows that are written between the two questions of one look belong to the end.
                script.rows = rowsTo(5)
              }
              return undefined
            }
            const followed = yield* events("--follow", "--json")
            assert.strictEqual(followed.code, code, followed.err)
            assert.deepStrictEqual(seqs(followed.out), [1, 2, 3, 4, 5])
            assert.include(followed.err, text)
          })
      )
    }

    live.effect(
      "--follow waits for a control plane that is away, says so, and goes on where it was",
      () =>
        Effect.gen(function*() {
          const { events, script } = yield* scripted
          let looks = 0
          script.pageSize = 2
          script.before = (path) => {
            looks += 1
            if (looks > 4 && looks <= 7) return reply(503, { error: "not ready" })
            if (path.includes("/lifecycle") && looks > 7) {
              script.rows = rowsTo(6)
              script.state = "Terminal"
            }
            return undefined
          }
          const followed = yield* events("--follow", "--json")
          assert.strictEqual(followed.code, 0, followed.err)
          assert.deepStrictEqual(seqs(followed.out), [1, 2, 3, 4, 5, 6])
          const said = followed.err.split("\n")
          assert.lengthOf(said.filter((line) => line.startsWith("waiting for the control plane: ")), 3)
          assert.include(followed.err, "the control plane answers again")
        })
    )

    live.effect(
      "--follow tells when the log is another one, and reads that from its first row",
      () =>
        Effect.gen(function*() {
          const { events, script } = yield* scripted
          let looks = 0
          script.before = (path) => {
            looks += path.includes("/lifecycle") ? 1 : 0
            if (looks === 2) {
              script.logId = "log-2"
              script.rows = rowsTo(2)
            }
            if (looks === 3) script.state = "Terminal"
            return undefined
          }
          const followed = yield* events("--follow", "--json")
          assert.strictEqual(followed.code, 0, followed.err)
          assert.deepStrictEqual(seqs(followed.out), [1, 2, 3, 1, 2])
          assert.include(followed.err, "another log than before")
        })
    )

    live.effect("a reader that has seen enough ends it, without a word", () =>
      Effect.gen(function*() {
        const { flags, script } = yield* scripted
        script.before = (path) => {
          if (path.includes("/lifecycle")) script.rows = rowsTo(script.rows.length + 1)
          return undefined
        }
        const command = [process.execPath, main, "rollout", "events", id, "--follow", "--json", ...flags]
        const ended = yield* Effect.callback<{ readonly code: number | null; readonly err: string }>((resume) => {
          const [file = "", ...args] = command
          const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] })
          let err = ""
          child.stderr.on("data", (chunk: Buffer) => err += chunk.toString())
          child.stdout.once("data", () => child.stdout.destroy())
          child.on("close", (code) => resume(Effect.succeed({ code, err })))
          return Effect.sync(() => child.kill("SIGKILL"))
        })
        assert.deepStrictEqual(ended, { code: 141, err: "" })
      }))

    live.effect("--follow of what cannot be asked at all fails at once", () =>
      Effect.gen(function*() {
        const { events, script } = yield* scripted
        script.before = () => reply(503, { error: "not ready" })
        const refused = yield* events("--follow")
        assert.strictEqual(refused.code, 1)
        assert.lengthOf(script.asked, 1)
      }))
  })
})
