import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { PermitVerdict } from "../../../src/Agent/SwitchPermit.ts"
import type { RealiseOutcome } from "../../../src/Layers/Host/Activator.ts"
import type { ScriptedEnd } from "../../../src/Layers/Host/ActivatorMemory.ts"
import { pass } from "../../../src/Layers/Host/Probes.ts"
import {
  dispatch,
  elapse,
  eventsOf,
  httpCheck,
  kindsOf,
  minute,
  newSystem,
  offer,
  oldSystem,
  r1,
  r2,
  recordOf,
  Rig,
  type RigOptions,
  second,
  thirdSystem
} from "../../support/agentRig.ts"

const ok: RealiseOutcome = { _tag: "Ok" }
const transient: RealiseOutcome = { _tag: "Transient", detail: "connection refused" }
const failing = { durationMs: 100, outcome: { status: "fail" as const, failureReason: "500" } }

/** A host on which `newSystem` ends as given, and everything else works. */
const hostWhere = (end: ScriptedEnd, fetched: (nth: number) => RealiseOutcome = () => ok) => ({
  host: {
    realise: (closure: string, nth: number) => ({
      durationMs: second,
      outcome: closure === newSystem ? fetched(nth) : ok
    }),
    switch: (closure: string) => ({
      durationMs: 4 * second,
      end: closure === newSystem ? end : { _tag: "Exit" as const, code: 0 }
    })
  }
})

const exit = (code: number): ScriptedEnd => ({ _tag: "Exit", code, stderr: "unit web failed" })

const runsOf = (rig: Rig) => rig.host.runs.map(({ closure, id }) => [closure, id.purpose, id.run])

describe("an activation", () => {
  it.effect("goes from the dispatch to Converged, one event after the other", () => {
    const rig = new Rig({ checks: { web: httpCheck } })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(2 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      assert.deepStrictEqual(yield* kindsOf(r1), [
        "DispatchAck",
        "ActivationStarted",
        "ActivationCompleted",
        "ProbeTopologyDeclared",
        "ProbeObservedFirst",
        "ProbeResult",
        "Converged"
      ])
      assert.deepStrictEqual(runsOf(rig), [[newSystem, "forward", 1]])
    }))
  })

  it.effect("soaks without a switch when the target runs already, and owes no rollback when it fails", () => {
    const rig = new Rig({ checks: { web: httpCheck }, probes: () => failing })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch({ targetClosure: oldSystem }))
      yield* elapse(2 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Failed")
      assert.deepStrictEqual(rig.host.runs, [])
    }))
  })

  const passing: ReadonlyArray<RealiseOutcome> = [
    transient,
    { _tag: "CacheUnreachable", detail: "connection refused" },
    { _tag: "CacheAuth", detail: "403" },
    { _tag: "CacheConfig", detail: "no nix-cache-info" },
    { _tag: "HostFault", fault: "disk", detail: "no space left" },
    { _tag: "Deadline", detail: "too slow" },
    { _tag: "Cancelled", detail: "interrupted" }
  ]
  for (const outcome of passing) {
    it.effect(`tries again to fetch what cannot be had for the moment: ${outcome._tag}`, () => {
      const rig = new Rig(hostWhere(exit(0), (nth) => nth < 4 ? outcome : ok))
      return rig.live(Effect.gen(function*() {
        yield* offer(dispatch())
        yield* elapse(5 * minute)
        assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      }))
    })
  }

  it.effect("keeps target and way back from the garbage collector for as long as they are needed, and no longer", () => {
    let atSwitch: ReadonlyArray<string> = []
    const given = hostWhere(exit(0), (nth) => nth < 4 ? transient : ok)
    const rig = new Rig({
      ...given,
      host: {
        ...given.host,
        switch: (closure) => {
          atSwitch = rig.host.retained
          return given.host.switch(closure)
        }
      }
    })
    return rig.live(Effect.gen(function*() {
      yield* elapse(minute)
      assert.deepStrictEqual(rig.host.retained, [oldSystem])
      yield* offer(dispatch())
      yield* elapse(5 * second)
      assert.deepStrictEqual(rig.host.retained, [oldSystem], "what is not there cannot be kept")
      yield* elapse(30 * second)
      assert.deepStrictEqual(atSwitch, [newSystem, oldSystem])
      yield* elapse(5 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      yield* elapse(minute)
      assert.deepStrictEqual(rig.host.retained, [newSystem])
    }))
  })

  it.effect("asks again for what could not be kept from the collector", () => {
    let free = false
    const given = hostWhere(exit(0))
    const rig = new Rig({ ...given, host: { ...given.host, retain: () => free } })
    return rig.live(Effect.gen(function*() {
      yield* elapse(minute)
      assert.deepStrictEqual(rig.host.retained, [])
      free = true
      yield* elapse(minute)
      assert.deepStrictEqual(rig.host.retained, [oldSystem])
    }))
  })

  it.effect("gives up fetching at the deadline, condemns nothing and touches nothing", () => {
    const rig = new Rig({ ...hostWhere(exit(0), () => transient), settings: { realiseDeadlineSecs: 120 } })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(119 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Activating")
      yield* elapse(10 * second)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Reverted" && !record.closureAtFault && record.revertedTo === oldSystem)
      assert.deepStrictEqual(rig.host.runs, [])
      assert.deepStrictEqual(rig.host.generations, [oldSystem])
    }))
  })

  for (const _tag of ["Absent", "Untrusted", "Corrupt"] as const) {
    it.effect(`fails at once, without blame, on a closure that is ${_tag}`, () => {
      const rig = new Rig(hostWhere(exit(0), () => ({ _tag, detail: "no such archive" })))
      return rig.live(Effect.gen(function*() {
        yield* offer(dispatch())
        yield* elapse(10 * second)
        const failed = (yield* eventsOf(r1)).find(({ kind }) => kind === "ActivationFailed")
        assert.isTrue(failed?.kind === "ActivationFailed" && failed.closureAtFault === false)
        assert.strictEqual(rig.host.countRealise(newSystem), 2)
      }))
    })
  }

  it.effect("goes back by name when the switch fails, and blames the closure", () => {
    const rig = new Rig(hostWhere(exit(1)))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(minute)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Reverted" && record.closureAtFault && record.revertedTo === oldSystem)
      assert.deepStrictEqual(runsOf(rig), [[newSystem, "forward", 1], [oldSystem, "rollback", 1]])
      assert.strictEqual(rig.host.running, oldSystem)
    }))
  })

  it.effect("tries a rollback that fails three times, then waits for a person", () => {
    const rig = new Rig({
      host: {
        realise: () => ({ durationMs: second, outcome: ok }),
        switch: () => ({ durationMs: second, end: exit(1) })
      }
    })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(30 * minute)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Failed" && record.rollbackFailures === 3)
      assert.deepStrictEqual(runsOf(rig), [
        [newSystem, "forward", 1],
        [oldSystem, "rollback", 1],
        [oldSystem, "rollback", 2],
        [oldSystem, "rollback", 3]
      ])
    }))
  })

  it.effect("waits for the reboot that a switch asks for, and completes when the host comes up with the target", () => {
    const rig = new Rig(hostWhere({ _tag: "Exit", code: 100, link: "unmoved" }))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Deferred")
      rig.host.running = newSystem
      yield* elapse(10 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
    }))
  })

  it.effect("does not start when the manifest no longer holds just before the switch", () => {
    const rig = new Rig({ permit: { _tag: "Fails", reason: "superseded", detail: "stale" } })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(minute)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Reverted" && !record.closureAtFault)
      assert.deepStrictEqual(rig.host.runs, [])
    }))
  })

  it.effect("waits while nobody can say whether the manifest still holds, and fails without blame at the deadline", () => {
    const unknown: PermitVerdict = { _tag: "Unknown", reason: "control-plane-unreachable", detail: "refused" }
    const rig = new Rig({ permit: unknown, settings: { realiseDeadlineSecs: 120 } })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(110 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Activating")
      yield* elapse(20 * second)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Reverted" && !record.closureAtFault)
      assert.deepStrictEqual(rig.host.runs, [])
    }))
  })

  it.effect("goes on as soon as the manifest is known to hold", () => {
    const rig = new Rig({ permit: { _tag: "Unknown", reason: "control-plane-unreachable", detail: "refused" } })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(minute)
      rig.permit = { _tag: "Holds" }
      yield* elapse(3 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
    }))
  })

  it.effect("waits for somebody else's switch under the same mark", () => {
    const rig = new Rig()
    rig.host.store.add(thirdSystem)
    return rig.live(Effect.gen(function*() {
      rig.host.script = {
        ...rig.host.script,
        switch: (closure) => ({ durationMs: closure === thirdSystem ? minute : second, end: exit(0) })
      }
      rig.host.startSwitch(thirdSystem, { rolloutId: "by-hand", attempt: 1, purpose: "forward", run: 1 }, 0)
      yield* offer(dispatch())
      yield* elapse(3 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      assert.deepStrictEqual(runsOf(rig).slice(1), [[newSystem, "forward", 1]])
    }))
  })
})

describe("a newer rollout", () => {
  const toThird = dispatch({ rolloutId: r2, targetClosure: thirdSystem, signedAt: 2 })

  it.effect("stops the fetching of an older one", () => {
    const rig = new Rig(hostWhere(exit(0), () => transient))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(10 * second)
      yield* offer(toThird)
      yield* elapse(2 * minute)
      assert.strictEqual((yield* recordOf(r2)).state, "Converged")
      assert.deepStrictEqual(runsOf(rig), [[thirdSystem, "forward", 1]])
    }))
  })

  it.effect("waits for the switch of an older one, and is never pulled back by it", () => {
    const rig = new Rig(hostWhere(exit(1)))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(2 * second)
      assert.strictEqual(rig.host.runs.length, 1)
      yield* offer(toThird)
      yield* elapse(2 * second)
      assert.strictEqual(rig.host.runs.length, 1)
      yield* elapse(2 * minute)
      assert.strictEqual((yield* recordOf(r2)).state, "Converged")
      assert.deepStrictEqual(runsOf(rig), [[newSystem, "forward", 1], [thirdSystem, "forward", 1]])
      assert.strictEqual(rig.host.running, thirdSystem)
    }))
  })

  it.effect("disarms the rollback of an older one that soaks badly", () => {
    const rig = new Rig({ checks: { web: httpCheck }, probes: () => failing })
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(20 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      rig.probes.script = () => ({ durationMs: 0, outcome: { status: "pass" } })
      yield* offer(toThird)
      yield* elapse(3 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      assert.strictEqual((yield* recordOf(r2)).state, "Converged")
      assert.strictEqual(rig.host.running, thirdSystem)
    }))
  })
})

describe("a restart", () => {
  const lives: ReadonlyArray<{
    readonly name: string
    readonly options: RigOptions
    readonly spoil?: (rig: Rig) => void
    readonly end: string
    readonly runs: number
    readonly until: number
  }> = [
    { name: "a good release", options: { checks: { web: httpCheck } }, end: "Converged", runs: 1, until: 65 },
    { name: "a switch that fails", options: hostWhere(exit(1)), end: "Reverted", runs: 2, until: 20 },
    {
      name: "probes that fail on the new system",
      options: { checks: { web: httpCheck } },
      spoil: (rig) => {
        rig.probes.script = () => rig.host.running === newSystem ? failing : { durationMs: 0, outcome: pass }
      },
      end: "Reverted",
      runs: 2,
      until: 45
    }
  ]
  for (const { end, name, options, runs, spoil, until } of lives) {
    it.effect(`after any second changes nothing about the end of ${name}`, () =>
      Effect.gen(function*() {
        for (let at = 0; at <= until; at += 1) {
          const rig = new Rig(options)
          spoil?.(rig)
          yield* rig.live(Effect.andThen(offer(dispatch()), elapse(at * second)))
          yield* elapse(3 * second)
          yield* rig.live(Effect.gen(function*() {
            for (let waited = 0; waited < 4 * minute && (yield* recordOf(r1)).state !== end; waited += 5 * second) {
              yield* elapse(5 * second)
            }
            yield* elapse(5 * second)
            assert.strictEqual((yield* recordOf(r1)).state, end, `stopped after ${at} s`)
            assert.strictEqual(rig.host.runs.length, runs, `stopped after ${at} s`)
          }))
        }
      }))
  }

  it.effect("after a power cut runs the switch once more, and not twice", () => {
    const rig = new Rig(hostWhere(exit(0)))
    const cut = Effect.gen(function*() {
      yield* elapse(2 * second)
      rig.host.powerCut(yield* rig.host.now)
    })
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(dispatch()), cut))
      assert.deepStrictEqual(runsOf(rig), [[newSystem, "forward", 1]])
      yield* rig.live(cut)
      assert.deepStrictEqual(runsOf(rig), [[newSystem, "forward", 1], [newSystem, "forward", 2]])
      yield* rig.live(Effect.gen(function*() {
        yield* elapse(minute)
        const record = yield* recordOf(r1)
        assert.isTrue(record.state === "Reverted" && !record.closureAtFault)
        assert.deepStrictEqual(runsOf(rig).slice(2), [[oldSystem, "rollback", 1]])
      }))
    })
  })
})
