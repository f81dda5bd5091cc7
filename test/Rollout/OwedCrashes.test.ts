/**
 * A small host with a worker that does what `owed` says, killed between any two of its steps, with or without a power cut
 * (D7, D11). Whatever the crash: the record ends, switches are bounded, and the host runs what the record says. Or it is gone for
 * so long that its guard takes the host back.
 */
import { assert, describe, it } from "@effect/vitest"
import type { UnnumberedEvent } from "../../src/Rollout/Host.ts"
import {
  type ActivationDuty,
  type Entry,
  guardOwed,
  maxSwitchStarts,
  owed,
  sameOrder,
  switchesToRead,
  type SwitchId,
  type SwitchState
} from "../../src/Rollout/Owed.ts"
import type { GuardState } from "../../src/Schema/GuardOrder.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import { apply, late, pending, policy, prior, samples, target } from "../support/records.ts"

/** How the target's own switch behaves. */
interface Behaviour {
  readonly code: number
  readonly moves: boolean
  readonly realises: boolean
}

interface Switch {
  readonly id: SwitchId
  readonly closure: string
  state: SwitchState
  /** Questions answered with `Running` before it ends. */
  left: number
}

/** What survives a crash of the agent: the journal, the host, and the detached switch. */
class World {
  record: HostRecord = pending()
  rollbackStarts = 0
  running = prior
  now = late
  guard: GuardState = { _tag: "None" }
  readonly switches: Array<Switch> = []
  readonly behaviour: Behaviour

  constructor(behaviour: Behaviour) {
    this.behaviour = behaviour
    this.tell({ ...samples.DispatchAck, receivedAt: late })
  }

  get entry(): Entry {
    return { record: this.record, bookkeeping: { rollbackStarts: this.rollbackStarts } }
  }

  /** The guard goes with the commit that says that it is not wanted any more. */
  tell(event: UnnumberedEvent): void {
    const before = guardOwed(this.entry)
    this.fold(event)
    if (this.guard._tag === "Armed" && !sameOrder(before, guardOwed(this.entry))) this.guard = { _tag: "None" }
  }

  /** At each look: armed when it is owed. */
  tend(): void {
    const order = guardOwed(this.entry)
    if (this.guard._tag === "None" && order !== undefined) {
      this.guard = { _tag: "Armed", order, watched: true, leftMs: 1 }
    }
  }

  /** The agent is gone for longer than the guard waits: what still runs ends, then it goes back. */
  agentIsGone(): void {
    for (const one of this.switches) if (one.state._tag === "Running") this.end(one)
    if (this.guard._tag !== "Armed") return
    const { order } = this.guard
    const { attempt, closure, forwardRun, rollbackRun, rolloutId } = order
    this.guard = { _tag: "Fired", order, acting: false }
    if (!order.expected.includes(this.running)) return
    const forward: SwitchId = { rolloutId, attempt, purpose: "forward", run: forwardRun }
    if (this.find(forward) === undefined) {
      const state: SwitchState = { _tag: "Killed", signal: "SIGKILL", stderrTail: "" }
      this.switches.push({ id: forward, closure: target, state, left: 0 })
    }
    const back: SwitchId = { rolloutId, attempt, purpose: "rollback", run: rollbackRun }
    if (this.find(back) !== undefined) return
    this.start(back, closure)
    for (const one of this.switches) if (one.state._tag === "Running") this.end(one)
  }

  fold(event: UnnumberedEvent): void {
    const result = apply(this.record, event, { policy, now: this.now })
    if (!result.ok) assert.fail(`${event.kind} in ${this.record.state}: ${JSON.stringify(result.error)}`)
    else this.record = result.record
  }

  read(id: SwitchId): SwitchState {
    const found = this.find(id)
    if (found === undefined) return { _tag: "Lost" }
    if (found.state._tag === "Running" && found.left-- === 0) this.end(found)
    return found.state
  }

  find(id: SwitchId): Switch | undefined {
    return this.switches.find((one) => JSON.stringify(one.id) === JSON.stringify(id))
  }

  /** A record runs at most once. */
  start(id: SwitchId, closure: string): void {
    if (this.find(id) !== undefined) return
    assert.isFalse(this.switches.some(({ state }) => state._tag === "Running"), "two switches at once")
    this.switches.push({ id, closure, state: { _tag: "Running" }, left: 1 })
  }

  end(one: Switch): void {
    const forward = one.closure === target
    if (!forward || this.behaviour.moves) this.running = one.closure
    one.state = { _tag: "Exited", code: forward ? this.behaviour.code : 0, stderrTail: "" }
  }

  powerCut(): void {
    for (const one of this.switches) if (one.state._tag === "Running") one.state = { _tag: "Lost" }
  }
}

/** One look of the worker, in steps; a crash falls between two of them. */
function* look(world: World): Generator<void, boolean> {
  world.tend()
  yield
  const entries = [world.entry]
  const switches = switchesToRead(entries).map((id) => ({ id, state: world.read(id) }))
  const duty: ActivationDuty = owed(entries, { running: world.running, switches, guard: world.guard }, world.now)
  yield
  switch (duty._tag) {
    case "Idle":
      return false
    case "Hold":
      if (duty.until === undefined) return false
      world.now = duty.until
      return true
    case "AwaitSwitch":
      world.now += 2000
      return true
    case "Settle":
      world.tell({ ...duty.event })
      return true
    case "Switch":
      if (!world.behaviour.realises) {
        world.tell({
          kind: "ActivationFailed",
          exitCode: -1,
          stderrTail: "",
          failedAt: world.now,
          closureAtFault: false
        })
        return true
      }
      yield
      world.tell({ kind: "ActivationStarted", startedAt: world.now, switchMethod: "test" })
      yield
      world.tend()
      if (world.guard._tag === "Fired") return true
      yield
      world.start(duty.id, duty.closure)
      return true
    case "Rollback":
      world.rollbackStarts++
      yield
      world.start(duty.id, duty.closure)
      return true
  }
}

const crashesAtMost = 3

/**
 * Runs to the end; the worker is killed after each of the given steps, and is gone for long after `goneAt`. A worker that is
 * only asleep then goes on where it was.
 */
function run(
  behaviour: Behaviour,
  crashes: ReadonlyArray<number>,
  powerCut: boolean,
  gone?: { readonly at: number; readonly asleep: boolean }
): World {
  return resume(new World(behaviour), crashes, powerCut, gone)
}

function resume(
  world: World,
  crashes: ReadonlyArray<number> = [],
  powerCut = false,
  gone?: { readonly at: number; readonly asleep: boolean }
): World {
  let step = 0
  for (let looks = 0; looks < 200; looks++) {
    const worker = look(world)
    for (;;) {
      const next = worker.next()
      if (next.done === true) {
        if (!next.value) return world
        break
      }
      if (step === gone?.at) {
        world.agentIsGone()
        step += 1
        if (gone.asleep) continue
        break
      }
      if (!crashes.includes(step++)) continue
      if (powerCut) world.powerCut()
      break
    }
  }
  return assert.fail("the worker never came to rest")
}

/** What the record and the host say of each other once a guard has fired. */
function afterTheGuard(world: World, switchesBack: number, label: string): void {
  const { record, running, switches } = world
  const back = switches.filter(({ id }) => id.purpose === "rollback")
  assert.strictEqual(record.state, "Reverted", label)
  assert.strictEqual(running, prior, label)
  assert.isTrue(back.length >= 1 && back.length <= switchesBack, `${label}: ${back.length} switches back`)
  assert.isAtMost(switches.length - back.length, maxSwitchStarts, label)
}

const behaviours: ReadonlyArray<[string, Behaviour]> = [
  ["good", { code: 0, moves: true, realises: true }],
  ["bad, link moved", { code: 1, moves: true, realises: true }],
  ["bad, link unmoved", { code: 1, moves: false, realises: true }],
  ["does nothing", { code: 0, moves: false, realises: true }],
  ["cannot be fetched", { code: 0, moves: true, realises: false }]
]

function* crashSets(steps: number): Generator<ReadonlyArray<number>> {
  yield []
  for (let a = 0; a < steps; a++) {
    yield [a]
    for (let b = a + 1; b < steps; b++) {
      yield [a, b]
      for (let c = b + 1; c < steps; c++) yield [a, b, c]
    }
  }
}

describe("an activation that is killed anywhere", () => {
  it.each(behaviours)("ends, with bounded switches and a true record: %s", (_, behaviour) => {
    for (const powerCut of [false, true]) {
      for (const crashes of crashSets(16)) {
        const world = run(behaviour, crashes, powerCut)
        const label = `crashes at ${crashes.join(", ")}${powerCut ? " with power cut" : ""}`
        const { record, running } = world
        const forwards = world.switches.filter(({ id }) => id.purpose === "forward").length
        assert.isAtMost(forwards, maxSwitchStarts, label)
        assert.isAtMost(world.switches.length - forwards, crashesAtMost, label)
        assert.strictEqual(
          new Set(world.switches.map(({ id }) => JSON.stringify(id))).size,
          world.switches.length,
          label
        )
        if (record.state === "Soaking") assert.strictEqual(running, target, label)
        else if (record.state === "Reverted") assert.strictEqual(running, prior, label)
        // Only crashes in each of its rollbacks may leave a person something to do.
        else assert.isTrue(record.state === "Failed" && crashes.length === crashesAtMost, `${record.state}: ${label}`)
      }
    }
  })

  it("without a crash a good closure is switched once, and one that cannot be fetched never", () => {
    const [good, unfetchable] = [behaviours[0]![1], behaviours[4]![1]].map((behaviour) => run(behaviour, [], false))
    assert.deepStrictEqual([good!.record.state, good!.switches.length], ["Soaking", 1])
    assert.deepStrictEqual([unfetchable!.record.state, unfetchable!.switches.length], ["Reverted", 0])
  })

  it.each(behaviours)("and then is gone for long, or asleep: the guard goes back, once: %s", (_, behaviour) => {
    let fired = 0
    for (const asleep of [false, true]) {
      for (let at = 0; at < 40; at++) {
        for (const crashes of [[], ...[...Array(at).keys()].map((crash) => [crash])]) {
          // It looks again after a while, also when its last look found nothing to do.
          const world = resume(run(behaviour, crashes, false, { at, asleep }))
          if (world.guard._tag !== "Fired") continue
          fired += 1
          // One that read of a lost rollback of its own and slept before it told so runs another: it changes nothing.
          const switchesBack = asleep && crashes.length > 0 ? 2 : 1
          afterTheGuard(
            world,
            switchesBack,
            `gone at ${at}${asleep ? ", asleep" : ""}, crashes at ${crashes.join(", ")}`
          )
        }
      }
    }
    assert.strictEqual(fired > 0, behaviour.realises, `${fired} guards fired`)
  })

  it("while it soaks: the same", () => {
    const world = run(behaviours[0]![1], [], false)
    assert.deepStrictEqual([world.record.state, world.guard._tag], ["Soaking", "Armed"])
    world.agentIsGone()
    const later = resume(world)
    assert.strictEqual(later.record.state === "Reverted" && later.record.cause, "guard-fired")
    afterTheGuard(later, 1, "soaking")
  })
})
