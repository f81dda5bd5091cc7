/** The launcher over a `systemd-run` that only pretends; with a real systemd it is shown where one can be booted. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { chmodSync, existsSync, writeFileSync } from "node:fs"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import type { SwitchId, SwitchResult } from "../../../../src/Layers/Host/Activator.ts"
import { DetachedSwitches } from "../../../../src/Layers/Host/DetachedSwitch.ts"
import { launchUnit } from "../../../../src/Layers/Host/nix/SystemdSwitch.ts"
import { processesWith, signalProcess } from "../../../../src/Layers/Host/Processes.ts"
import { switchId } from "../../../support/activatorContract.ts"
import { linesOf } from "../../../support/archiveHost.ts"
import { writeTree } from "../../../support/closures.ts"
import { temporaryDirectory } from "../../../support/directories.ts"
import { installFakeSystemd } from "../../../support/fakeSystemd.ts"
import { until } from "../../../support/until.ts"

/** A host whose records are in a directory with a name that every shell and systemd would like to change. */
const makeRig = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const bin = join(directory, "bin")
  const recordsDir = join(directory, "records of $HOME ${PATH} %n 'x'")
  yield* Effect.promise(() => mkdir(bin))
  installFakeSystemd(bin)
  const switches = new DetachedSwitches({
    recordsDir,
    lockFile: join(directory, "switch.lock"),
    currentLink: join(directory, "current-system"),
    timeoutMs: 1000,
    graceMs: 200,
    environment: { PATH: `${bin}:/usr/bin:/bin`, NOTE: join(directory, "note"), WORDS: "a$b ${c} %n" },
    mover: "switch",
    foreignLock: undefined,
    launch: launchUnit
  })
  yield* Effect.promise(() => switches.open())
  const start = (name: string, body: string, id: SwitchId) =>
    Effect.promise(async () => {
      const files = { "bin/switch-to-configuration": `#!/bin/sh\n${body}\n` }
      return switches.start(await writeTree(join(directory, name), files), id, "switch")
    })
  const ended = (id: SwitchId): Effect.Effect<SwitchResult> =>
    Effect.flatMap(
      Effect.promise(() => switches.result(id)),
      (result) => result._tag === "Running" ? Effect.andThen(Effect.sleep(20), ended(id)) : Effect.succeed(result)
    )
  return { bin, directory, switches, start, ended, loaded: join(bin, "nixfleet-switch.loaded") }
})

describe("a switch as a unit of systemd", () => {
  const table: ReadonlyArray<readonly [string, SwitchResult]> = [
    ["echo oops >&2; exit 0", { _tag: "Exited", code: 0, stderrTail: "oops\n" }],
    ["exit 1", { _tag: "Exited", code: 1, stderrTail: "" }],
    ["exit 4", { _tag: "Exited", code: 4, stderrTail: "" }],
    ["sleep 60", { _tag: "TimedOut", stderrTail: "" }]
  ]
  it.live.each(table)("has its result in its file: %s", ([body, expected]) =>
    Effect.gen(function*() {
      const { ended, start } = yield* makeRig
      assert.deepStrictEqual(yield* start("closure", body, switchId()), { _tag: "Started" })
      assert.deepStrictEqual(yield* ended(switchId()), expected)
    }))

  it.live("gets its environment as it is, and not the programs of its unit", () =>
    Effect.gen(function*() {
      const { directory, ended, start } = yield* makeRig
      yield* start("closure", `{ echo "$WORDS"; env; } >"$NOTE"`, switchId())
      yield* ended(switchId())
      const lines = linesOf(join(directory, "note"))
      assert.strictEqual(lines[0], "a$b ${c} %n")
      assert.isFalse(lines.some((line) => /^NIXFLEET_(?:SUPERVISOR|AFTER)=/.test(line)))
    }))

  it.live("is the only one: another waits for it, the same one is started already", () =>
    Effect.gen(function*() {
      const { ended, loaded, start } = yield* makeRig
      assert.strictEqual((yield* start("slow", "sleep 0.5", switchId(1)))._tag, "Started")
      assert.strictEqual((yield* start("other", "exit 0", switchId(2)))._tag, "Busy")
      assert.strictEqual((yield* start("slow", "sleep 0.5", switchId(1)))._tag, "Started")
      yield* ended(switchId(1))
      yield* until(() => !existsSync(loaded))
      assert.strictEqual((yield* start("other", "exit 0", switchId(2)))._tag, "Started")
      assert.strictEqual((yield* ended(switchId(2)))._tag, "Exited")
    }))

  it.live("whose supervisor was killed has a result all the same", () =>
    Effect.gen(function*() {
      const { directory, ended, start } = yield* makeRig
      yield* start("closure", `echo "$NIXFLEET_SWITCH" >"$NOTE"; sleep 60`, switchId())
      yield* until(() => existsSync(join(directory, "note")))
      const record = linesOf(join(directory, "note"))[0]!
      const pid = Number(linesOf(`${record}.claim`)[0])
      signalProcess(pid, "SIGKILL")
      assert.deepStrictEqual(yield* ended(switchId()), { _tag: "Killed", signal: "SIGKILL", stderrTail: "" })
      const left = yield* Effect.promise(() => processesWith(`NIXFLEET_SWITCH=${record}`))
      // The real systemd ends them with the unit.
      for (const one of left) signalProcess(one, "SIGKILL")
    }))

  it.live("that systemd refuses has failed, with its words; without systemd-run likewise", () =>
    Effect.gen(function*() {
      const { bin, start } = yield* makeRig
      writeFileSync(join(bin, "systemd-run"), "#!/bin/sh\necho 'Failed to connect to bus: Host is down' >&2; exit 1\n")
      const refused = yield* start("closure", "exit 0", switchId())
      assert.match(refused._tag === "Failed" ? refused.detail : refused._tag, /Host is down/)
      chmodSync(join(bin, "systemd-run"), 0o644)
      assert.strictEqual((yield* start("closure", "exit 0", switchId()))._tag, "Failed")
    }))
})
