import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { Activator, type SwitchId } from "../../../src/Layers/Host/Activator.ts"
import * as ArchiveActivator from "../../../src/Layers/Host/ArchiveActivator.ts"
import { processesWith, signalProcess } from "../../../src/Layers/Host/Processes.ts"
import { activate, awaitSwitch, switchId } from "../../support/activatorContract.ts"
import { linesOf, makeHost } from "../../support/archiveHost.ts"
import { publishClosure, switches } from "../../support/closures.ts"
import { until } from "../../support/until.ts"

type Host = Effect.Success<ReturnType<typeof makeHost>>

/** A test on a host of its own, with one agent. */
const onHost = (
  name: string,
  body: (host: Host) => Effect.Effect<void, unknown, Activator>,
  over: Partial<ArchiveActivator.ArchiveActivatorConfig> = {}
) =>
  it.live(name, () =>
    Effect.gen(function*() {
      const host = yield* makeHost(over)
      yield* Effect.provide(body(host), host.layer)
    }))

const ready = (host: Host, body: string) =>
  Effect.gen(function*() {
    const closure = yield* publishClosure(host.source, "closure", body)
    const activator = yield* Activator
    assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
    return { activator, closure, path: join(host.config.storeDir, closure) }
  })

/** Path of the record of the only switch of a host. */
const recordOf = (host: Host): string => {
  const claims = readdirSync(host.config.stateDir).filter((name) => name.endsWith(".claim"))
  assert.strictEqual(claims.length, 1)
  return join(host.config.stateDir, claims[0]!.slice(0, -".claim".length))
}
const supervisorOf = (host: Host): number => Number(readFileSync(`${recordOf(host)}.claim`, "utf8"))
/** Ends the only switch of a host as a service manager does at a shutdown, and answers its result. */
const stopped = (host: Host) =>
  Effect.gen(function*() {
    yield* until(() => linesOf(host.runsFile).length === 1)
    const pid = supervisorOf(host)
    signalProcess(pid, "SIGTERM")
    yield* until(() => !existsSync(`/proc/${pid}/cwd`))
    return yield* awaitSwitch(switchId())
  })
const livingOf = (host: Host) => Effect.promise(() => processesWith(`NIXFLEET_SWITCH=${recordOf(host)}`))

describe("a switch", () => {
  onHost(
    "runs `switch` of the closure in a session of its own, told where the link is, and nothing else",
    (host) =>
      Effect.gen(function*() {
        const { activator, closure, path } = yield* ready(host, "env | sort; ps -o sid= -p $$; sleep 0.3")
        yield* activator.startSwitch(closure, switchId())
        const pid = supervisorOf(host)
        assert.strictEqual(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[3], String(pid))
        yield* awaitSwitch(switchId())
        const record = recordOf(host)
        const lines = linesOf(`${record}.out`)
        assert.strictEqual(lines.at(-1)!.trim(), String(pid))
        const names = lines.slice(0, -1).map((line) => line.split("=")[0])
        assert.deepStrictEqual(
          names.filter((name) => name !== "_" && name !== "OLDPWD"),
          ["NIXFLEET_CLOSURE", "NIXFLEET_CURRENT_SYSTEM", "NIXFLEET_SWITCH", "PATH", "PWD", "RUNS"]
        )
        assert.include(lines, `NIXFLEET_CLOSURE=${path}`)
        assert.include(lines, `NIXFLEET_CURRENT_SYSTEM=${join(host.config.runDir, "current-system")}`)
        assert.deepStrictEqual(linesOf(host.runsFile), [`${path} switch`])
      })
  )

  onHost("may move the link itself, and its supervisor then leaves it", (host) =>
    Effect.gen(function*() {
      const { closure, path } = yield* ready(host, `ln -sfn "$NIXFLEET_CLOSURE" "$NIXFLEET_CURRENT_SYSTEM"`)
      yield* activate(closure, switchId())
      assert.strictEqual(readlinkSync(join(host.config.runDir, "current-system")), path)
    }))

  onHost("that leaves a link whose name no event can carry leaves an unknown system", (host) =>
    Effect.gen(function*() {
      const bad = join(host.config.storeDir, `${"a".repeat(40)}-bad\tname`)
      mkdirSync(bad)
      const { activator, closure } = yield* ready(host, `ln -sfn '${bad}' "$NIXFLEET_CURRENT_SYSTEM"`)
      assert.strictEqual((yield* activate(closure, switchId()))._tag, "Exited")
      assert.isUndefined((yield* activator.current).running)
    }))

  onHost(
    "that points the link elsewhere is not corrected: what runs is not the target",
    (host) =>
      Effect.gen(function*() {
        mkdirSync(join(host.root, "elsewhere"))
        const { activator, closure } = yield* ready(host, `ln -sfn ${host.root}/elsewhere "$NIXFLEET_CURRENT_SYSTEM"`)
        assert.strictEqual((yield* activate(closure, switchId()))._tag, "Exited")
        assert.isUndefined((yield* activator.current).running)
      })
  )

  onHost("whose link cannot be moved has exited with 0 and is not what runs", (host) =>
    Effect.gen(function*() {
      mkdirSync(join(host.config.runDir, "current-system", "full"), { recursive: true })
      const { activator, closure } = yield* ready(host, "exit 0")
      const result = yield* activate(closure, switchId())
      assert.strictEqual(result._tag === "Exited" && result.code, 0)
      assert.isUndefined((yield* activator.current).running)
    }))

  for (const code of [1, 2, 3, 124, 126, 127]) {
    onHost(`that exits with ${code} says so`, (host) =>
      Effect.gen(function*() {
        const { closure } = yield* ready(host, `exit ${code}`)
        const result = yield* activate(closure, switchId())
        assert.strictEqual(result._tag === "Exited" ? result.code : result._tag, code)
      }))
  }

  onHost("that is killed by a signal names it", (host) =>
    Effect.gen(function*() {
      const { closure } = yield* ready(host, "kill -SEGV $$")
      const result = yield* activate(closure, switchId())
      assert.strictEqual(result._tag === "Killed" ? result.signal : result._tag, "SIGSEGV")
    }))

  onHost("reports the end of its stderr, at most 500 bytes of whole characters", (host) =>
    Effect.gen(function*() {
      const { closure } = yield* ready(
        host,
        `i=0; while [ $i -lt 300 ]; do printf 'ä' >&2; i=$((i+1)); done; printf x >&2; exit 1`
      )
      const result = yield* activate(closure, switchId())
      const tail = result._tag === "Exited" ? result.stderrTail : ""
      assert.strictEqual(tail, `${"ä".repeat(249)}x`)
    }))

  for (const leader of ["exec sleep 60", switches.stubborn]) {
    onHost(
      `that outlives its time is killed with all of its group after the grace (leader: ${leader})`,
      (host) =>
        Effect.gen(function*() {
          const { closure } = yield* ready(host, `(${switches.stubborn}) & ${leader}`)
          assert.strictEqual((yield* activate(closure, switchId()))._tag, "TimedOut")
          // The supervisor itself ends after its result is written.
          while ((yield* livingOf(host)).length > 0) yield* Effect.sleep(10)
        }),
      { switchTimeoutMs: 300, switchGraceMs: 200 }
    )
  }

  onHost("whose result is not what a supervisor writes is lost", (host) =>
    Effect.gen(function*() {
      const { activator, closure } = yield* ready(host, "true")
      assert.strictEqual((yield* activate(closure, switchId()))._tag, "Exited")
      for (const damaged of ["", "exited", "exited x", "exited 99999999999", "killed", "timeout 3", "finished 0"]) {
        writeFileSync(`${recordOf(host)}.result`, `${damaged}\n`)
        assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" }, damaged)
      }
      writeFileSync(`${recordOf(host)}.result`, "timeout\n")
      assert.strictEqual((yield* activator.switchResult(switchId()))._tag, "TimedOut")
    }))

  onHost("whose records are taken away ends without a result and leaves no process", (host) =>
    Effect.gen(function*() {
      const { activator, closure } = yield* ready(host, "sleep 0.5")
      yield* activator.startSwitch(closure, switchId())
      const record = recordOf(host)
      yield* until(() => linesOf(host.runsFile).length === 1)
      rmSync(host.config.stateDir, { recursive: true })
      while ((yield* Effect.promise(() => processesWith(`NIXFLEET_SWITCH=${record}`))).length > 0) {
        yield* Effect.sleep(10)
      }
      assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
    }))

  onHost(
    "that ends as `timeout` does where it cannot fork is lost: that says nothing about the closure",
    (host) =>
      Effect.gen(function*() {
        const { closure } = yield* ready(host, "exit 125")
        assert.deepStrictEqual(yield* activate(closure, switchId()), { _tag: "Lost" })
        assert.deepStrictEqual(yield* activate(closure, switchId(1, { run: 2 })), { _tag: "Lost" })
      })
  )

  onHost(
    "whose supervisor is told to stop loses its whole group, those that ignore TERM included",
    (host) =>
      Effect.gen(function*() {
        const { activator, closure } = yield* ready(host, `(${switches.stubborn}) & ${switches.stubborn}`)
        yield* activator.startSwitch(closure, switchId())
        assert.strictEqual((yield* stopped(host))._tag, "Killed")
        assert.deepStrictEqual(yield* livingOf(host), [])
      }),
    { switchGraceMs: 200 }
  )

  onHost("may leave a daemon behind: it neither is killed nor holds the lock", (host) =>
    Effect.gen(function*() {
      const pids = join(host.root, "daemons")
      const { activator, closure } = yield* ready(host, `sleep 30 & echo $! >>${pids}; exit 0`)
      const daemons = () => linesOf(pids).map(Number)
      yield* Effect.ensuring(
        Effect.gen(function*() {
          assert.strictEqual((yield* activate(closure, switchId(1)))._tag, "Exited")
          assert.deepStrictEqual(yield* activator.startSwitch(closure, switchId(2)), { _tag: "Started" })
          assert.strictEqual((yield* awaitSwitch(switchId(2)))._tag, "Exited")
          assert.strictEqual(daemons().length, 2)
          for (const pid of daemons()) assert.isTrue(existsSync(`/proc/${pid}/cwd`))
        }),
        Effect.sync(() => daemons().forEach((pid) => signalProcess(pid, "SIGKILL")))
      )
    }))

  onHost(
    "cannot start without its script, or on a host without flock, and says what is missing",
    (host) =>
      Effect.gen(function*() {
        const { closure } = yield* ready(host, "exit 0")
        const bare = ArchiveActivator.layer({ ...host.config, switchEnvironment: { PATH: "/nonexistent" } })
        const outcome = yield* Effect.flatMap(Activator, (other) => other.startSwitch(closure, switchId())).pipe(
          Effect.provide(bare, { local: true })
        )
        assert.strictEqual(outcome._tag, "Failed")
        assert.match(outcome._tag === "Failed" ? outcome.detail : "", /this host has no flock/)
        assert.deepStrictEqual(linesOf(host.runsFile), [])
      })
  )
})

/** A host that went from one closure to another, and the order of its guard. */
const gone = (host: Host, oldBody = "exit 0") =>
  Effect.gen(function*() {
    const { activator, closure: old } = yield* ready(host, oldBody)
    yield* activate(old, switchId(1))
    const target = yield* publishClosure(host.source, "target", "exit 0")
    yield* activator.realise(target)
    yield* activator.setProfile(target)
    yield* activate(target, switchId(2))
    const { rolloutId } = switchId()
    const recover = (forwardRun = 1) =>
      spawnSync("/bin/sh", [
        "-c",
        activator.recovery({
          rolloutId,
          attempt: 2,
          forwardRun,
          rollbackRun: 1,
          closure: old,
          expected: [target, old]
        })
      ], { env: { PATH: "/usr/bin:/bin" } }).status
    return { activator, old, target, recover }
  })
describe("the host's lock", () => {
  const isForOwnersOnly = (host: Host) => (statSync(join(host.config.runDir, "switch.lock")).mode & 0o077) === 0

  onHost(
    "is for its owner only: whoever may read it may hold it, and no switch would ever begin",
    (host) =>
      Effect.gen(function*() {
        const { closure } = yield* ready(host, `umask >${host.root}/umask`)
        yield* activate(closure, switchId())
        assert.isTrue(isForOwnersOnly(host))
        assert.strictEqual(Number.parseInt(linesOf(join(host.root, "umask"))[0]!, 8), process.umask())
      })
  )

  onHost("is so too where the way back makes it", (host) =>
    Effect.gen(function*() {
      const { recover } = yield* gone(host)
      rmSync(join(host.config.runDir, "switch.lock"))
      assert.strictEqual(recover(), 0)
      assert.isTrue(isForOwnersOnly(host))
    }))
})

describe("a switch whose words no file takes", () => {
  for (const ending of ["err", "out"]) {
    onHost(`(.${ending}) does not begin, is nobody's fault, and may begin later`, (host) =>
      Effect.gen(function*() {
        const { activator, closure } = yield* ready(host, "exit 0")
        yield* activate(closure, switchId())
        const obstacle = `${recordOf(host).replace(/1$/, "2")}.${ending}`
        mkdirSync(obstacle)
        const second = switchId(1, { run: 2 })
        const outcome = yield* activator.startSwitch(closure, second)
        assert.match(outcome._tag === "Failed" ? outcome.detail : outcome._tag, /cannot write/)
        rmSync(obstacle, { recursive: true })
        assert.deepStrictEqual(yield* activator.startSwitch(closure, second), { _tag: "Started" })
        assert.strictEqual((yield* awaitSwitch(second))._tag, "Exited")
        assert.strictEqual(linesOf(host.runsFile).length, 2)
      }))
  }
})

describe("the way back, without an agent,", () => {
  const back = (run: number) => switchId(2, { purpose: "rollback", run })

  onHost("is gone once more when the power went away in it, and no third time", (host) =>
    Effect.gen(function*() {
      const { activator, old, recover, target } = yield* gone(host)
      const powerCut = (run: number) => {
        const name = readdirSync(host.config.stateDir).find((one) => one.endsWith(`.rollback.${run}.result`))!
        rmSync(join(host.config.stateDir, name))
        rmSync(join(host.config.runDir, "current-system"))
        symlinkSync(join(host.config.storeDir, target), join(host.config.runDir, "current-system"))
      }
      assert.strictEqual(recover(), 0)
      powerCut(1)
      assert.deepStrictEqual(yield* activator.switchResult(back(1)), { _tag: "Lost" })
      assert.strictEqual(recover(), 0)
      assert.deepStrictEqual(yield* activator.current, { running: old, profile: old })
      assert.strictEqual((yield* activator.switchResult(back(2)))._tag, "Exited")
      assert.strictEqual(recover(), 0)
      assert.strictEqual(linesOf(host.runsFile).length, 4, "what has ended is not done again")
      powerCut(2)
      assert.strictEqual(recover(), 0)
      assert.strictEqual(linesOf(host.runsFile).length, 4)
    }))

  onHost("is gone once more when the host had no room for its switch", (host) =>
    Effect.gen(function*() {
      const full = join(host.root, "full")
      const { activator, old, recover } = yield* gone(host, `[ ! -e ${full} ] || { rm ${full}; exit 125; }`)
      writeFileSync(full, "")
      assert.strictEqual(recover(), 1)
      assert.strictEqual(recover(), 0)
      assert.deepStrictEqual(yield* activator.current, { running: old, profile: old })
      assert.strictEqual((yield* activator.switchResult(back(2)))._tag, "Exited")
    }))

  onHost("ends first what a switch without its supervisor left running", (host) =>
    Effect.gen(function*() {
      const { activator, recover } = yield* gone(host)
      const endless = yield* publishClosure(host.source, "endless", "sleep 60")
      yield* activator.realise(endless)
      yield* activator.startSwitch(endless, switchId(2, { run: 2 }))
      yield* until(() => linesOf(host.runsFile).length === 3)
      const claim = readdirSync(host.config.stateDir).find((name) => name.endsWith(".2.forward.2.claim"))!
      const record = join(host.config.stateDir, claim.slice(0, -".claim".length))
      const supervisor = Number(readFileSync(`${record}.claim`, "utf8"))
      process.kill(supervisor, "SIGKILL")
      yield* until(() => !existsSync(`/proc/${supervisor}/cwd`))
      const living = Effect.promise(() => processesWith(`NIXFLEET_SWITCH=${record}`))
      const left = yield* living
      assert.isAbove(left.length, 0)
      yield* Effect.ensuring(
        Effect.gen(function*() {
          assert.strictEqual(recover(2), 0)
          assert.deepStrictEqual(yield* living, [])
        }),
        Effect.sync(() => left.forEach((pid) => signalProcess(pid, "SIGKILL")))
      )
    }), { switchTimeoutMs: 30_000 })

  onHost("gives up its reserve also where the lock itself cannot be made", (host) =>
    Effect.gen(function*() {
      const { old, recover, activator } = yield* gone(host)
      const reserve = join(host.config.runDir, "space.reserve")
      const lock = join(host.config.runDir, "switch.lock")
      writeFileSync(reserve, "space")
      rmSync(lock)
      mkdirSync(lock)
      assert.strictEqual(recover(), 1)
      assert.isFalse(existsSync(reserve))
      rmSync(lock, { recursive: true })
      assert.strictEqual(recover(), 0)
      assert.strictEqual((yield* activator.current).running, old)
    }))
})

describe("after a crash", () => {
  const startInChild = (host: Host, closure: string, id: SwitchId) =>
    Effect.acquireRelease(
      Effect.promise(async () => {
        const script = new URL("../../support/startSwitch.ts", import.meta.url).pathname
        const child = spawn(process.execPath, [script, JSON.stringify(host.config), closure, JSON.stringify(id)], {
          stdio: ["ignore", "pipe", "inherit"],
          detached: true
        })
        const [line] = await once(createInterface({ input: child.stdout }), "line")
        return { child, line: String(line) }
      }),
      ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
    )

  onHost(
    "of the agent (kill -9 of its whole group) the switch goes on, and the next agent reads its result",
    (host) =>
      Effect.scoped(Effect.gen(function*() {
        const { activator, closure } = yield* ready(host, "sleep 1; echo done >&2")
        const { child, line } = yield* startInChild(host, closure, switchId())
        assert.strictEqual(line, "Started")
        process.kill(-child.pid!, "SIGKILL")
        yield* Effect.promise(() => once(child, "exit"))
        assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Running" })
        assert.strictEqual((yield* activator.startSwitch(closure, switchId(2)))._tag, "Busy")
        assert.deepStrictEqual(yield* awaitSwitch(switchId()), { _tag: "Exited", code: 0, stderrTail: "done\n" })
        assert.strictEqual((yield* activator.current).running, closure)
      }))
  )

  onHost(
    "of the supervisor the switch is lost, its lock is free, and the next start ends what it left",
    (host) =>
      Effect.gen(function*() {
        const { activator, closure } = yield* ready(host, "sleep 60")
        yield* activator.startSwitch(closure, switchId())
        yield* until(() => linesOf(host.runsFile).length === 1)
        process.kill(supervisorOf(host), "SIGKILL")
        yield* until(() => !existsSync(`/proc/${supervisorOf(host)}/cwd`))
        assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
        const left = yield* livingOf(host)
        assert.isAbove(left.length, 0)
        const again = yield* publishClosure(host.source, "again", "exit 0")
        yield* activator.realise(again)
        assert.deepStrictEqual(yield* activator.startSwitch(again, switchId(1, { run: 2 })), { _tag: "Started" })
        for (const pid of left) assert.isFalse(existsSync(`/proc/${pid}/cwd`))
        assert.strictEqual((yield* awaitSwitch(switchId(1, { run: 2 })))._tag, "Exited")
        // The same switch is not run a second time.
        assert.deepStrictEqual(yield* activator.startSwitch(closure, switchId()), { _tag: "Started" })
        assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
      }),
    { switchTimeoutMs: 30_000 }
  )

  onHost(
    "a pid that belongs to another process now is not taken for the switch, and is not killed",
    (host) =>
      Effect.gen(function*() {
        const { activator, closure } = yield* ready(host, "sleep 60")
        const quick = yield* publishClosure(host.source, "quick", "exit 0")
        yield* activator.realise(quick)
        yield* activator.startSwitch(closure, switchId())
        yield* stopped(host)
        const record = recordOf(host)
        const stranger = spawn("sleep", ["60"], { stdio: "ignore" })
        yield* Effect.ensuring(
          Effect.gen(function*() {
            yield* Effect.promise(() => once(stranger, "spawn"))
            writeFileSync(`${record}.claim`, `${stranger.pid}\n`)
            rmSync(`${record}.result`)
            assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
            assert.deepStrictEqual(yield* activator.startSwitch(quick, switchId(2)), { _tag: "Started" })
            yield* awaitSwitch(switchId(2))
            assert.isNull(stranger.exitCode)
            assert.isNull(stranger.signalCode)
          }),
          Effect.sync(() => stranger.kill("SIGKILL"))
        )
      }),
    { switchTimeoutMs: 30_000 }
  )

  it.live.skipIf(process.getuid?.() !== 0)(
    "somebody else's process that claims to be the switch is not believed",
    () =>
      Effect.gen(function*() {
        const host = yield* makeHost()
        yield* Effect.gen(function*() {
          const { activator, closure } = yield* ready(host, "exit 0")
          yield* activate(closure, switchId())
          const record = recordOf(host)
          // It comes again whenever it is killed.
          const stranger = spawn("sh", ["-c", `while :; do NIXFLEET_SWITCH=${record} sleep 60; done`], {
            uid: 65_534,
            stdio: "ignore",
            detached: true
          })
          yield* Effect.ensuring(
            Effect.gen(function*() {
              const found = Effect.promise(() => processesWith(`NIXFLEET_SWITCH=${record}`))
              while ((yield* found).length === 0) yield* Effect.sleep(10)
              writeFileSync(`${record}.claim`, `${(yield* found)[0]}\n`)
              rmSync(`${record}.result`)
              assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
              const begun = yield* Effect.timeoutOption(
                Effect.interruptible(
                  Effect.promise(() => Effect.runPromise(activator.startSwitch(closure, switchId(2))))
                ),
                5000
              )
              assert.deepStrictEqual(begun, Option.some({ _tag: "Started" as const }))
            }),
            Effect.sync(() => signalProcess(-stranger.pid!, "SIGKILL"))
          )
        }).pipe(Effect.provide(host.layer))
      })
  )

  it.live("two agents with records of their own share the host's lock", () =>
    Effect.gen(function*() {
      const host = yield* makeHost({ switchTimeoutMs: 30_000 })
      const other = ArchiveActivator.layer({ ...host.config, stateDir: join(host.root, "other-state") })
      yield* Effect.gen(function*() {
        const { activator, closure } = yield* ready(host, "exec sleep 20")
        yield* activator.startSwitch(closure, switchId())
        const outcome = yield* Effect.flatMap(Activator, (second) => second.startSwitch(closure, switchId())).pipe(
          Effect.provide(other, { local: true })
        )
        assert.strictEqual(outcome._tag, "Busy")
        assert.strictEqual((yield* stopped(host))._tag, "Killed")
      }).pipe(Effect.provide(Layer.orDie(host.layer)))
    }))

  onHost("a link that a crash left half made does not stop the next switch", (host) =>
    Effect.gen(function*() {
      symlinkSync("/nowhere", join(host.config.runDir, "current-system"))
      const { activator, closure } = yield* ready(host, "exit 0")
      assert.isUndefined((yield* activator.current).running)
      yield* activate(closure, switchId())
      assert.strictEqual((yield* activator.current).running, closure)
    }))
})
