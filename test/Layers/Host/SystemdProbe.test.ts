import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { ProbeOutcome } from "../../../src/Layers/Host/Probes.ts"
import { failedUnits, judgeFailedUnits, runSystemd } from "../../../src/Layers/Host/SystemdProbe.ts"
import { HealthCheck } from "../../../src/Schema/HealthChecks.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { bootMachine, noMachines } from "../../support/nspawn.ts"
import { until } from "../../support/until.ts"

const check = (declaration: Record<string, unknown>) => {
  const decoded = Schema.decodeUnknownSync(HealthCheck)({ kind: "systemd", mode: "enforce", ...declaration })
  return decoded.kind === "systemd" ? decoded : assert.fail("no systemd check")
}

/** A `systemctl` that is this script; `log` has a line of arguments and environment for each call. */
const stub = Effect.fnUntraced(function*(script: string) {
  const directory = yield* temporaryDirectory
  const log = join(directory, "log")
  writeFileSync(
    join(directory, "systemctl"),
    `#!/bin/sh\necho "$* LC_ALL=$LC_ALL COLORS=$SYSTEMD_COLORS HOME=$HOME" >>${log}\n${script}\n`
  )
  chmodSync(join(directory, "systemctl"), 0o755)
  return {
    environment: { PATH: `${directory}:/usr/bin:/bin` },
    calls: () => readFileSync(log, "utf8").trim().split("\n")
  }
})

const run = Effect.fnUntraced(function*(script: string, declaration: Record<string, unknown>) {
  return yield* runSystemd(check(declaration), (yield* stub(script)).environment)
})

const block = (load: string, active: string, sub: string) =>
  `printf 'LoadState=${load}\\nActiveState=${active}\\nSubState=${sub}\\n'`
const web = { units: ["web.service"] }
const two = { units: ["web.service", "db.service"] }
const said = (text: string, status: ProbeOutcome["status"] = "fail") => ({ status, failureReason: text })

describe("a systemd probe of units", () => {
  it.live.each<[string, string, Record<string, unknown>, ProbeOutcome]>([
    ["active", block("loaded", "active", "running"), web, { status: "pass" }],
    ["reloading, which goes on to serve", block("loaded", "reloading", "reload"), web, { status: "pass" }],
    ["failed", block("loaded", "failed", "failed"), web, said("web.service is failed (failed)")],
    [
      "restarting",
      block("loaded", "activating", "auto-restart"),
      web,
      said("web.service is activating (auto-restart)")
    ],
    ["stopped", block("loaded", "inactive", "dead"), web, said("web.service is inactive (dead)")],
    ["absent", block("not-found", "inactive", "dead"), web, said("web.service does not exist")],
    [
      "one of two",
      `${block("loaded", "active", "running")}; echo; ${block("loaded", "failed", "failed")}`,
      two,
      said("db.service is failed (failed)")
    ],
    [
      "told of too few",
      block("loaded", "active", "running"),
      two,
      said("systemctl show told of 1 units, asked for 2", "inconclusive")
    ],
    ["told in words that mean nothing", "echo nonsense", web, said("web.service is unknown (unknown)")]
  ])("%s", ([, script, declaration, expected]) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(script, declaration), expected)
    }))

  it.live("asks in one question, with an environment of its own, and lets no unit be an option", () =>
    Effect.gen(function*() {
      const { calls, environment } = yield* stub(
        `${block("loaded", "active", "running")}; echo; ${block("loaded", "active", "x")}`
      )
      assert.deepStrictEqual(yield* runSystemd(check(two), environment), { status: "pass" })
      assert.deepStrictEqual(calls(), [
        "--no-pager --no-ask-password show --property=LoadState,ActiveState,SubState -- web.service db.service " +
        "LC_ALL=C.UTF-8 COLORS=0 HOME="
      ])
    }))
})

describe("failed units", () => {
  const failed =
    `case "$*" in *list-units*) printf 'b.service loaded failed failed B\\na.mount    loaded failed failed\\n';; esac`

  it.live("are read by name, each once, ascending", () =>
    Effect.gen(function*() {
      const { environment } = yield* stub(failed)
      assert.deepStrictEqual(yield* failedUnits(environment), { _tag: "Units", units: ["a.mount", "b.service"] })
      const none = yield* stub("exit 0")
      assert.deepStrictEqual(yield* failedUnits(none.environment), { _tag: "Units", units: [] })
    }))

  it.live("that are more than may be fail a probe, which names them; as many as may be do not", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(failed, { maxFailedUnits: 2 }), { status: "pass" })
      assert.deepStrictEqual(
        yield* run(failed, { maxFailedUnits: 1 }),
        said("2 units failed, 1 may: a.mount, b.service")
      )
    }))

  it("that had failed before the switch do not count, wherever they stand", () => {
    const found = { _tag: "Units", units: ["a.service", "b.service", "c.service"] } as const
    assert.strictEqual(judgeFailedUnits(found, 0, ["c.service", "a.service", "b.service"]).status, "pass")
    assert.deepStrictEqual(
      judgeFailedUnits(found, 0, ["b.service", "gone.service"]),
      said("2 units failed, 0 may: a.service, c.service; 1 that failed before the switch are not counted")
    )
    const many = { _tag: "Units", units: Array.from({ length: 300 }, (_, at) => `u${at}.service`) } as const
    assert.match(judgeFailedUnits(many, 0).failureReason ?? "", /u4\.service and 295 more$/)
  })
})

describe("a host that cannot say how its units are is inconclusive:", () => {
  const both = { units: ["web.service"], maxFailedUnits: 0 }

  it.live("without systemctl", () =>
    Effect.gen(function*() {
      const outcome = yield* runSystemd(check(both), { PATH: "/nonexistent" })
      assert.strictEqual(outcome.status, "inconclusive")
      assert.match(outcome.failureReason ?? "", /^systemctl could not be started: .*ENOENT/)
      const gate = judgeFailedUnits(yield* failedUnits({ PATH: "/nonexistent" }), 1000)
      assert.strictEqual(gate.status, "inconclusive")
    }))

  it.live("without systemd", () =>
    Effect.gen(function*() {
      const { failureReason, status } = yield* run("echo 'System has not been booted with systemd' >&2; exit 1", both)
      assert.strictEqual(status, "inconclusive")
      assert.strictEqual(failureReason, "systemctl exited with 1: System has not been booted with systemd")
    }))

  it.live("when systemd does not answer in time", () =>
    Effect.gen(function*() {
      const { failureReason, status } = yield* run("sleep 60", { ...both, timeoutSecs: 1 })
      assert.strictEqual(status, "inconclusive")
      assert.match(failureReason ?? "", /^systemctl was ended after 1000 ms/)
    }))

  it.live("when the answer is no list of units", () =>
    Effect.gen(function*() {
      const { failureReason, status } = yield* run("echo '\\033[31mwhat?'", { maxFailedUnits: 5 })
      assert.strictEqual(status, "inconclusive")
      assert.match(failureReason ?? "", /which is no unit$/)
    }))

  it.live("but what is known to have failed counts more than what is not known", () =>
    Effect.gen(function*() {
      const failedThen = `case "$*" in *show*) ${block("loaded", "failed", "failed")};; *) exit 1;; esac`
      assert.strictEqual((yield* run(failedThen, both)).status, "fail")
      const activeThen = `case "$*" in *show*) ${block("loaded", "active", "running")};; *) exit 1;; esac`
      assert.strictEqual((yield* run(activeThen, both)).status, "inconclusive")
    }))
})

describe("a question to systemd", () => {
  it.live("ends with the probe that asked it", () =>
    Effect.gen(function*() {
      const pidFile = join(yield* temporaryDirectory, "pid")
      const { environment } = yield* stub(`echo $$ >${pidFile}.new; mv ${pidFile}.new ${pidFile}; exec sleep 60`)
      const fiber = yield* Effect.forkChild(runSystemd(check(web), environment))
      yield* until(() => existsSync(pidFile))
      yield* Fiber.interrupt(fiber)
      const pid = Number(readFileSync(pidFile, "utf8"))
      yield* until(() => !existsSync(`/proc/${pid}/cwd`))
    }))
})

describe.skipIf(noMachines !== undefined)("a real systemd", () => {
  it.live(
    "is understood: active, failed, stopped and absent units, and which units are failed",
    () =>
      Effect.gen(function*() {
        const machine = yield* bootMachine({ name: "probed" })
        const before = yield* machine.must("systemctl list-units --state=failed --plain --no-legend | cut -d' ' -f1")
        const oneshot = (program: string) => `[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=${program}\n`
        machine.write("/etc/systemd/system/good.service", oneshot("/bin/true"))
        machine.write("/etc/systemd/system/bad.service", oneshot("/bin/false"))
        machine.write("/etc/systemd/system/idle.service", oneshot("/bin/true"))
        yield* machine.must("systemctl daemon-reload; systemctl start good.service; ! systemctl start bad.service")
        const { environment } = yield* stub(
          `exec nsenter -t ${machine.init} -m -u -i -n -p -C /usr/bin/env PATH=/usr/bin:/bin systemctl "$@"`
        )
        const failed = yield* failedUnits(environment)
        const earlier = before.split("\n").filter((line) => line !== "")
        assert.deepStrictEqual(failed, { _tag: "Units", units: ["bad.service", ...earlier].toSorted() })
        assert.deepStrictEqual(
          judgeFailedUnits(failed, 0, earlier),
          said(
            "1 units failed, 0 may: bad.service" +
              (earlier.length === 0 ? "" : `; ${earlier.length} that failed before the switch are not counted`)
          )
        )
        const of = (...units: ReadonlyArray<string>) => runSystemd(check({ units }), environment)
        assert.deepStrictEqual(yield* of("good.service", "basic.target"), { status: "pass" })
        assert.deepStrictEqual(
          yield* of("bad.service", "good.service", "idle.service", "absent.service"),
          said("bad.service is failed (failed), idle.service is inactive (dead), absent.service does not exist")
        )
        yield* machine.must("systemctl reset-failed bad.service")
        assert.deepStrictEqual(yield* failedUnits(environment), { _tag: "Units", units: earlier.toSorted() })
      }),
    60_000
  )
})
