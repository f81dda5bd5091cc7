import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Schema } from "effect"
import { spawnSync } from "node:child_process"
import { mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs"
import { evaluate, runEvidence } from "../../../src/Layers/Host/EvidenceProbe.ts"
import { decodeEvidence } from "../../../src/Schema/Evidence.ts"
import { HealthCheck } from "../../../src/Schema/HealthChecks.ts"
import { formatTimestamp } from "../../../src/Schema/Primitives.ts"
import type { Json } from "../../../src/Trust/CanonicalJson.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { type EvidenceFiles, writeEvidence } from "../../support/evidence.ts"

const check = (declaration: Record<string, unknown>) => {
  const decoded = Schema.decodeUnknownSync(HealthCheck)({ kind: "evidence", mode: "enforce", ...declaration })
  return decoded.kind === "evidence" ? decoded : assert.fail("no evidence check")
}

const control = (
  controlId: string,
  passed: boolean,
  frameworkArticles: Record<string, ReadonlyArray<string>> = {}
) => ({
  controlId,
  passed,
  frameworkArticles
})

const controls = [
  control("disk", true, { nis2: ["art21.h", "art21.a"], iso: [] }),
  control("mfa", false, { nis2: ["art21.j"] }),
  control("loose", true)
]

const documentOf = (list: ReadonlyArray<Json>, collectedAt = "1970-01-01T00:00:00Z"): Json => ({
  schemaVersion: 1,
  hostname: "web-1",
  collectedAt,
  controls: list
})

function judged(declaration: Record<string, unknown>, list: ReadonlyArray<Json> = controls) {
  const decoded = decodeEvidence(documentOf(list))
  if (!decoded.ok) return assert.fail(decoded.problem)
  const { failureReason, status, subResults } = evaluate(check(declaration), decoded.value)
  const results = (subResults ?? []).map((one) =>
    [one.controlId, one.status, one.framework, one.article, one.effectiveMode, one.overrideReason]
      .filter((part) => part !== undefined).join(" ")
  )
  return { status, results, ...(failureReason === undefined ? {} : { failureReason }) }
}

describe("what evidence means for a framework", () => {
  it("is one result for each article of it, and one for a control without articles", () => {
    assert.deepStrictEqual(judged({ framework: "nis2" }), {
      status: "fail",
      failureReason: "controls failed: mfa",
      results: ["disk pass nis2 art21.h enforce", "disk pass nis2 art21.a enforce", "mfa fail nis2 art21.j enforce"]
    })
    assert.deepStrictEqual(judged({ framework: "iso" }), { status: "pass", results: ["disk pass iso enforce"] })
  })
  it("follows the overrides: an observed control fails nothing, a disabled one is left out", () => {
    const observed = judged({ framework: "nis2", controlOverrides: { mfa: { mode: "observe", reason: "waiver 12" } } })
    assert.strictEqual(observed.status, "pass")
    assert.include(observed.results, "mfa fail nis2 art21.j observe waiver 12")
    const disabled = judged({ framework: "nis2", controlOverrides: { mfa: { mode: "disabled" } } })
    assert.deepStrictEqual([disabled.status, disabled.results.length], ["pass", 2])
    const nothing = judged({ framework: "iso", controlOverrides: { disk: { mode: "disabled" } } })
    assert.strictEqual(nothing.status, "fail")
  })
  it("fails when no control speaks for it, also for a name that objects have", () => {
    for (const framework of ["soc2", "constructor", "__proto__"]) {
      const { failureReason, status } = judged({ framework })
      assert.deepStrictEqual([status, failureReason], ["fail", `no control of ${framework} is in the evidence`])
    }
  })
  it("of a probe that is only observed says how its controls are (A-W64)", () => {
    assert.strictEqual(judged({ framework: "nis2", mode: "observe" }).status, "fail")
    assert.strictEqual(judged({ framework: "iso", mode: "observe" }).status, "pass")
  })
})

describe("what evidence means for listed controls", () => {
  it("is a result for each framework and article, `custom` where there is none", () => {
    const enforce = { mode: "enforce" }
    assert.deepStrictEqual(judged({ controls: { loose: enforce, disk: enforce } }), {
      status: "pass",
      // An override is told with its reason, also with an empty one: then the text ends here.
      results: [
        "disk pass iso enforce ",
        "disk pass nis2 art21.h enforce ",
        "disk pass nis2 art21.a enforce ",
        "loose pass custom enforce "
      ]
    })
  })
  it("is a failure of one that the collector does not know", () => {
    assert.deepStrictEqual(judged({ controls: { loose: { mode: "enforce" }, gone: { mode: "enforce" } } }), {
      status: "fail",
      failureReason: "controls failed: gone",
      results: ["gone fail custom enforce ", "loose pass custom enforce "]
    })
  })
  it("counts every entry of a control that stands twice", () => {
    const twice = [control("a", true), control("a", false)]
    assert.strictEqual(judged({ controls: { a: { mode: "enforce" } } }, twice).status, "fail")
  })
  it("is bounded: more than an event can carry is a failure without results", () => {
    const articles = Array.from({ length: 4097 }, (_, at) => `a${at}`)
    const outcome = judged({ framework: "f" }, [control("a", true, { f: articles })])
    assert.deepStrictEqual(outcome, {
      status: "fail",
      failureReason: "4097 results are more than can be told",
      results: []
    })
    const long = [control("a", true, { f: Array.from({ length: 4000 }, (_, at) => `${at}`.padEnd(255, "x")) })]
    assert.match(judged({ framework: "f" }, long).failureReason ?? "", /^4000 results are more/)
  })
})

describe("a declaration of an evidence probe", () => {
  it.each([
    ["neither framework nor controls", {}],
    ["both", { framework: "a", controls: {} }],
    ["overrides of listed controls", { controls: {}, controlOverrides: {} }],
    ["an unknown mode", { controls: { a: { mode: "maybe" } } }],
    ["a relative path", { framework: "a", evidencePath: "evidence.json" }]
  ])("is refused with %s", (_, given) => assert.throws(() => check(given)))
})

describe("an evidence probe", () => {
  const run = Effect.fnUntraced(function*(
    spoil: (files: EvidenceFiles) => void = () => {},
    given: Record<string, unknown> = {},
    document = documentOf([control("disk", true, { nis2: [] })])
  ) {
    const files = writeEvidence(yield* temporaryDirectory, document)
    spoil(files)
    return yield* runEvidence(check({ framework: "nis2", evidencePath: files.evidencePath, ...given }), {
      hostname: "web-1",
      keyFile: files.keyPath
    })
  })
  const fresh = documentOf([control("disk", true, { nis2: [] })])

  // Under TestClock it is 1970, when the document was collected.
  it.effect("passes on what the host's key signed, and tells its controls", () =>
    Effect.gen(function*() {
      const outcome = yield* run()
      assert.strictEqual(outcome.status, "pass")
      assert.strictEqual(outcome.subResults?.length, 1)
    }))

  it.effect("takes the key that its declaration names before the host's", () =>
    Effect.gen(function*() {
      const elsewhere = yield* run((files) => renameSync(files.keyPath, `${files.keyPath}.moved`))
      assert.strictEqual(elsewhere.status, "inconclusive")
      const files = writeEvidence(yield* temporaryDirectory, fresh)
      const declared = check({ framework: "nis2", evidencePath: files.evidencePath, keyPath: files.keyPath })
      const outcome = yield* runEvidence(declared, { hostname: "web-1", keyFile: "/nonexistent" })
      assert.strictEqual(outcome.status, "pass")
    }))

  const missing: ReadonlyArray<readonly [string, keyof EvidenceFiles]> = [
    ["evidence", "evidencePath"],
    ["signature", "signaturePath"],
    ["key", "keyPath"]
  ]
  for (const [what, path] of missing) {
    it.effect(`without ${what} could not be run`, () =>
      Effect.gen(function*() {
        const outcome = yield* run((files) => rmSync(files[path]))
        assert.strictEqual(outcome.status, "inconclusive")
        assert.match(outcome.failureReason ?? "", /ENOENT/)
      }))
  }

  const replaced = (put: (file: string) => void) => (files: EvidenceFiles) => {
    rmSync(files.evidencePath)
    put(files.evidencePath)
  }
  const hostile: ReadonlyArray<readonly [string, (files: EvidenceFiles) => void, RegExp]> = [
    ["a fifo", replaced((file) => void spawnSync("mkfifo", [file])), /not a regular file/],
    ["a directory", replaced((file) => mkdirSync(file)), /not a regular file/],
    ["a link to an endless device", replaced((file) => symlinkSync("/dev/zero", file)), /not a regular file/],
    ["a file beyond the limit", (files) => truncateSync(files.evidencePath, 1_048_577), /1048577 bytes/],
    ["a file cut short", (files) => truncateSync(files.evidencePath, 20), /not JSON that has one meaning/],
    ["a signature that is a fifo", (files) => {
      rmSync(files.signaturePath)
      spawnSync("mkfifo", [files.signaturePath])
    }, /not a regular file/],
    [
      "another signature",
      (files) => writeFileSync(files.signaturePath, Buffer.alloc(64).toString("base64")),
      /signature/
    ]
  ]
  for (const [what, spoil, problem] of hostile) {
    it.effect(`fails on ${what}`, () =>
      Effect.gen(function*() {
        const outcome = yield* run(spoil)
        assert.strictEqual(outcome.status, "fail")
        assert.match(outcome.failureReason ?? "", problem)
        assert.notProperty(outcome, "subResults")
      }))
  }

  it.live("goes by the clock", () =>
    Effect.gen(function*() {
      const stale = yield* run()
      assert.match(stale.failureReason ?? "", /stale: collected at 1970-01-01T00:00:00Z/)
      const now = formatTimestamp(Math.floor(yield* Clock.currentTimeMillis))
      const outcome = yield* run(undefined, {}, documentOf([control("disk", true, { nis2: [] })], now))
      assert.strictEqual(outcome.status, "pass")
    }))
})
