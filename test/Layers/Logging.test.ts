import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Logger } from "effect"
import { TestClock } from "effect/testing"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, globSync, openSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { logOf, makeLogger, type Sink, withLogFields } from "../../src/Layers/Logging.ts"
import { lineNames, logFormats, logTargets } from "../../src/Schema/Logs.ts"

const root = join(import.meta.dirname, "../..")
const log = logOf("agent_longpoll")
const at = Date.UTC(2026, 10, 20, 23, 5, 6, 78)

interface Watched {
  readonly sink: Sink
  readonly written: Array<string>
  /** What waits to be told that it was written; `undefined`: told at once. */
  readonly held: Array<(error?: Error) => void> | undefined
}

const watched = (options: { readonly isTTY?: boolean; readonly slow?: boolean } = {}): Watched => {
  const written: Array<string> = []
  const held: Array<(error?: Error) => void> | undefined = options.slow === true ? [] : undefined
  return {
    written,
    held,
    sink: {
      isTTY: options.isTTY ?? false,
      on: () => undefined,
      write: (text, done) => {
        written.push(text)
        if (held === undefined) done()
        else held.push(done)
        return held === undefined
      }
    }
  }
}

/** What a program writes to a sink. */
const writing = <A, E>(
  program: Effect.Effect<A, E>,
  { format = "json", isTTY, noColour }: {
    readonly format?: "json" | "pretty"
    readonly isTTY?: boolean
    readonly noColour?: string
  } = {}
) =>
  Effect.gen(function*() {
    const { sink, written } = watched(isTTY === undefined ? {} : { isTTY })
    yield* TestClock.setTime(at)
    yield* program.pipe(
      Effect.provide(Logger.layer([makeLogger({ format, level: "info", noColour }, sink)]))
    )
    return written.join("")
  })

describe("a line as JSON", () => {
  it.effect("is one flat object: time, level, target, message, then the fields", () =>
    Effect.gen(function*() {
      const text = yield* writing(
        log.warn("the poll was not answered", { reason: "unexpected-status", detail: "status 502", status: 502 }).pipe(
          withLogFields({ program: "nixfleet-agent", hostname: "edge-07" })
        )
      )
      assert.strictEqual(
        text,
        "{\"timestamp\":\"2026-11-20T23:05:06.078Z\",\"level\":\"warn\",\"target\":\"agent_longpoll\"," +
          "\"message\":\"the poll was not answered\",\"program\":\"nixfleet-agent\",\"hostname\":\"edge-07\"," +
          "\"reason\":\"unexpected-status\",\"detail\":\"status 502\",\"status\":502}\n"
      )
    }))

  it.effect("has every level in lower case, and `runtime` for who does not say where it belongs", () =>
    Effect.gen(function*() {
      const text = yield* writing(Effect.andThen(
        log.error("a", { reason: "worker-ended" }),
        Effect.andThen(Effect.logFatal("b"), Effect.andThen(Effect.logInfo("c", { d: 1n }), log.info("e")))
      ))
      const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line))
      assert.deepStrictEqual(lines.map(({ level }) => level), ["error", "error", "info", "info"])
      assert.deepStrictEqual(lines.map(({ target }) => target), [
        "agent_longpoll",
        "runtime",
        "runtime",
        "agent_longpoll"
      ])
      assert.deepStrictEqual(lines[2].message, "c { d: 1n }")
    }))

  it.effect("leaves out what is absent, and lets no field replace what every line has", () =>
    Effect.gen(function*() {
      const text = yield* writing(
        Effect.annotateLogs(log.info("here", { detail: undefined }), { level: "fatal", message: "x", timestamp: 0 })
      )
      assert.deepStrictEqual(Object.keys(JSON.parse(text)), [...lineNames])
      assert.strictEqual(JSON.parse(text).message, "here")
    }))

  it.effect("has a cause in one field of one line", () =>
    Effect.gen(function*() {
      const text = yield* writing(
        log.error("a request failed", { reason: "handler-defect" }, Cause.die(new Error("first\nsecond")))
      )
      const { cause } = JSON.parse(text)
      assert.match(cause, /^Error: first \| second \| at /)
      assert.isAtMost(cause.length, 2_001)
    }))
})

const circle: Record<string, unknown> = { name: "circle" }
circle["self"] = circle

/** Values that a peer, or a fault, may bring. */
const hostile: ReadonlyArray<readonly [what: string, value: unknown]> = [
  ["a new line and a forged object", "x\n{\"level\":\"info\",\"message\":\"all is well\"}"],
  ["a carriage return", "x\rroot: all is well"],
  ["an escape sequence", "\u001b[2J\u001b[31mred\u0007"],
  ["a one-character CSI", "\u009b31mred"],
  ["delete and null", "a\u007fb\u0000c"],
  ["line and paragraph separators", "a\u2028b\u2029c"],
  ["text that turns round", "abc\u202egnp.exe\u2066"],
  ["invisible characters", "a\u200b\ufeff\u{e0041}b"],
  ["half a character", "a\ud800b"],
  ["a megabyte", "x".repeat(1_000_000)],
  ["a character cut in two", `${"x".repeat(1_999)}\u{1f600}`],
  ["a circle", circle],
  ["a big integer", 10n ** 30n],
  ["no number", Number.NaN],
  ["a function", () => 1],
  ["a symbol", Symbol("s")],
  ["an error", new Error("one\ntwo")],
  [
    "an error whose message cannot be read",
    Object.defineProperty(new Error("x"), "message", {
      get: () => {
        throw new Error("no")
      }
    })
  ],
  ["a value that says nothing", Object.create(null)],
  ["a value that cannot become text", { [Symbol.toPrimitive]: () => ({}) }]
]

describe("a hostile value", () => {
  for (const [what, value] of hostile) {
    it.effect(`breaks neither a line nor a terminal: ${what}`, () =>
      Effect.gen(function*() {
        for (const format of logFormats) {
          const said = Effect.andThen(
            Effect.annotateLogs(Effect.logInfo(value), { target: "events", hostname: value, "a\u001bb\nc": value }),
            log.info("next")
          )
          const text = yield* writing(said, { format })
          const lines = text.split("\n")
          assert.lengthOf(lines, 3)
          assert.notMatch(text.replaceAll("\n", ""), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
          assert.isBelow(lines[0]?.length ?? 0, 8_000)
          if (format === "json") {
            const line = JSON.parse(lines[0] ?? "")
            assert.strictEqual(line.target, "events")
            assert.include(["string", "number"], typeof line.hostname)
          }
        }
      }))
  }

  it.effect("reads back as it was, when it is one line", () =>
    Effect.gen(function*() {
      const value = "\u001b[31m\u009b\u202eäöü 日本 😀 \"quoted\" back\\slash"
      assert.strictEqual(JSON.parse(yield* writing(log.info("x", { detail: value }))).detail, value)
    }))
})

describe("a line for people", () => {
  const refusal = log.warn("event refused", { reason: "invariant", detail: "two words", seq: 4, kind: "Failed" })

  it.effect("shows time, level, target, message and fields", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* writing(refusal, { format: "pretty" }),
        "23:05:06.078Z WARN  agent_longpoll event refused reason=invariant detail=\"two words\" seq=4 kind=Failed\n"
      )
    }))

  it.effect("has colours on a terminal, unless NO_COLOR is set", () =>
    Effect.gen(function*() {
      const on = (isTTY: boolean, noColour?: string) =>
        Effect.map(
          writing(refusal, { format: "pretty", isTTY, ...(noColour === undefined ? {} : { noColour }) }),
          (text) => text.includes("\u001b[33mWARN \u001b[0m")
        )
      assert.deepStrictEqual(
        [yield* on(true), yield* on(true, ""), yield* on(true, "1"), yield* on(false)],
        [true, true, false, false]
      )
      assert.notInclude(yield* writing(refusal, { format: "json", isTTY: true }), "\u001b")
    }))
})

describe("a log that nobody reads", () => {
  it.effect("is bounded, and says how many lines are missing where they are missing", () =>
    Effect.gen(function*() {
      const { held = [], sink, written } = watched({ slow: true })
      const logger = makeLogger({ format: "json", level: "info", noColour: undefined }, sink)
      const said = (count: number) =>
        Effect.repeat(log.info("x".repeat(900)), { times: count - 1 }).pipe(Effect.provide(Logger.layer([logger])))
      yield* said(5_000)
      const kept = written.length
      assert.isBelow(written.join("").length, 1_100_000)
      assert.isAbove(kept, 900)
      // A reader that comes back a little does not make a gap for each line.
      held.shift()?.()
      yield* said(1)
      assert.lengthOf(written, kept)
      while (held.length > 0) held.shift()?.()
      yield* said(1)
      assert.lengthOf(written, kept + 2)
      const { lost, reason, target } = JSON.parse(written[kept] ?? "")
      assert.deepStrictEqual([lost, reason, target], [5_001 - kept, "log-lines-lost", "logging"])
    }))

  it.effect("counts what the stream could not write", () =>
    Effect.gen(function*() {
      const { held = [], sink, written } = watched({ slow: true })
      const logger = makeLogger({ format: "json", level: "info", noColour: undefined }, sink)
      const say = Effect.provide(log.info("x"), Logger.layer([logger]))
      yield* Effect.repeat(say, { times: 2 })
      while (held.length > 0) held.shift()?.(new Error("EPIPE"))
      yield* say
      assert.include(written[3], "\"lost\":3")
    }))
})

const talker = join(root, "test/support/talker.ts")

/** Ends with the test. */
const talking = (args: ReadonlyArray<string>, stdout: "pipe" | number = "pipe") =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [talker, ...args], { stdio: ["pipe", stdout, "pipe"] })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

const logged = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.stderr === null) throw new Error("no standard error")
    const [text] = await once(child.stderr, "data")
    assert.strictEqual(String(text), "logged\n")
  })

const codeOf = (child: ChildProcess) => Effect.promise(async () => (await once(child, "exit"))[0])

describe("a real process", () => {
  it.live("is not stalled by a reader that does not read, and tells it afterwards what it missed", () =>
    Effect.gen(function*() {
      const child = yield* talking(["json", "30000"])
      yield* logged(child)
      let text = ""
      child.stdout?.on("data", (chunk: Buffer) => text += chunk.toString())
      // Read until it pauses, so that there is room again.
      yield* Effect.sleep("300 millis")
      child.stdin?.end("one more\n")
      assert.strictEqual(yield* codeOf(child), 0)
      const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line))
      const gap = lines.findIndex(({ reason }) => reason === "log-lines-lost")
      assert.strictEqual(lines[gap].lost + gap, 30_000)
      assert.deepStrictEqual(lines.slice(gap + 1).map(({ message }) => message), ["after"])
    }))

  for (const format of logFormats) {
    it.live(`goes on when nobody can read its log any more (${format})`, () =>
      Effect.gen(function*() {
        const child = yield* talking([format, "10"])
        child.stdout?.destroy()
        yield* logged(child)
        for (let times = 0; times < 20; times += 1) child.stdin?.write("one more\n")
        yield* Effect.sleep("200 millis")
        assert.isNull(child.exitCode)
        child.stdin?.end("the last\n")
        assert.strictEqual(yield* codeOf(child), 0)
      }))
  }

  it.live("goes on when its log is on a full disk", () =>
    Effect.gen(function*() {
      const full = yield* Effect.acquireRelease(
        Effect.sync(() => openSync("/dev/full", "w")),
        (fd) => Effect.sync(() => closeSync(fd))
      )
      const child = yield* talking(["json", "10"], full)
      yield* logged(child)
      child.stdin?.end("one more\n")
      assert.strictEqual(yield* codeOf(child), 0)
    }))
})

describe("the sources", () => {
  const sources = globSync("src/**/*.ts", { cwd: root }).map((file) =>
    [file, readFileSync(join(root, file), "utf8")] as const
  )

  it("write to the log by `logOf` alone, which asks for a target and for reasons", () => {
    const others = sources.filter(([file, text]) =>
      file !== "src/Layers/Logging.ts" && /\bEffect\.log|annotateLogs|\bconsole\.|Logger\.console/.test(text)
    )
    assert.deepStrictEqual(others.map(([file]) => file), [])
  })

  it("use every target of the catalogue", () => {
    const text = sources.filter(([file]) => file !== "src/Schema/Logs.ts").map(([, one]) => one).join("\n")
    assert.deepStrictEqual(Object.keys(logTargets).filter((target) => !text.includes(`"${target}"`)), [])
  })
})
