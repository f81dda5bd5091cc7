import { assert, describe, it } from "@effect/vitest"
import { Effect, HashMap, Schema } from "effect"
import { hostIn } from "../../src/ControlPlane/State.ts"
import * as Views from "../../src/ControlPlane/Views.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { Explanation, HostsResponse, RolloutHosts } from "../../src/Schema/OperatorViews.ts"
import { type AgentEvent, agentEventKinds, HeartbeatResponse, type RolloutDigest } from "../../src/Schema/Wire.ts"
import {
  capable,
  closureOf,
  idOf,
  openJournal,
  Plane,
  reference,
  type Release,
  start
} from "../support/controlPlane.ts"
import { type Random, random } from "../support/random.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const id = idOf(r1)
const names = ["web", "__proto__", "constructor", "hasOwnProperty", "é"]
const times = [0, 1, start, start + 600_000, 253_402_300_799_999]
const closures = ["", closureOf("a1", "h1"), closureOf("a1", "h2"), "x", "__proto__"]
const attempts = [undefined, 0, 1, 1, 1, 2, 4_294_967_295]

/** Any event that decodes, with the values that hurt most. */
function anyEvent({ pick }: Random, seq: number): AgentEvent {
  const kind = pick(agentEventKinds)
  const attempt = pick(attempts)
  const common = { seq, ...(attempt === undefined ? {} : { attempt }) }
  const at = pick(times)
  const probe = { probeName: pick(names), mode: pick(["enforce", "observe", "disabled"] as const) }
  switch (kind) {
    case "DispatchAck":
      return { kind, currentClosureAtDispatch: pick(closures), receivedAt: at, ...common }
    case "ActivationStarted":
      return { kind, startedAt: at, switchMethod: "", ...common }
    case "ActivationCompleted":
      return {
        kind,
        observedCurrentClosure: pick(closures),
        exitCode: pick([0, 4, -2_147_483_648]),
        completedAt: at,
        ...common
      }
    case "ActivationDeferred":
      return { kind, component: "", deferredAt: at, ...common }
    case "ActivationFailed":
      return { kind, exitCode: 1, stderrTail: "", failedAt: at, closureAtFault: pick([true, false]), ...common }
    case "ProbeTopologyDeclared":
      return { kind, probes: [{ ...probe, kind: "http" }], declaredAt: at, ...common }
    case "ProbeObservedFirst":
      return { kind, ...probe, observedAt: at, ...common }
    case "ProbeResult":
      return { kind, ...probe, status: pick(["pass", "fail"] as const), observedAt: at, ...common }
    case "ProbeFailureFirst":
      return { kind, ...probe, firstFailedAt: at, ...common }
    case "Failed":
      return {
        kind,
        failedAt: at,
        sustainedDurationSecs: Number.MAX_SAFE_INTEGER,
        failingProbes: [pick(names)],
        policyApplied: pick(["halt", "rollback-and-halt"] as const),
        ...common
      }
    case "RollbackComplete":
      return { kind, revertedToClosure: pick(closures), exitCode: 0, completedAt: at, ...common }
    case "Converged":
      return { kind, convergedAt: at, currentClosure: pick(closures), ...common }
  }
}

const states = ["Pending", "Activating", "Deferred", "Soaking", "Converged", "Failed", "Reverted"] as const

function anyDigest({ chance, pick }: Random, lastSeq: number): RolloutDigest {
  return {
    rollout_id: pick([id, id, "stable@ff", "edge@ff", "__proto__"]),
    state: pick(states),
    target_closure: pick(closures),
    attempt: pick(attempts) ?? 1,
    last_event_seq: chance(0.7) ? lastSeq : Number.MAX_SAFE_INTEGER,
    quarantined: chance(0.3)
  }
}

const encodeHosts = Schema.encodeSync(HostsResponse)
const encodeRolloutHosts = Schema.encodeSync(RolloutHosts)
const encodeExplanation = Schema.encodeSync(Explanation)
const encodeAnswer = Schema.encodeSync(HeartbeatResponse)

/** One turn of one host that says whatever decodes. */
function lie(plane: Plane, source: Random): void {
  const { chance, pick } = source
  const host = pick(["h1", "h2", "h3"])
  const capabilities = pick([capable, reference])
  const lastSeq = hostIn(plane.state, id, host)?.ledger.lastSeq ?? 0
  plane.now += pick([0, 1, 60_000])
  switch (pick(["event", "event", "event", "event", "heartbeat", "heartbeat", "poll", "time"] as const)) {
    case "event": {
      const seq = chance(0.9) ? lastSeq + 1 : pick([0, lastSeq, lastSeq + 5])
      plane.post(host, id, anyEvent(source, seq), { capabilities })
      return
    }
    case "heartbeat": {
      const rejection = { rollout_id: pick([id, "__proto__"]), reason: "x", detail: "", at: pick(times) }
      const answer = plane.heartbeat(host, {
        at: pick(times),
        current_closure: pick(closures),
        digests: [anyDigest(source, lastSeq)],
        rejections: [rejection]
      }, capabilities)
      encodeAnswer(answer.response)
      return
    }
    case "poll":
      plane.poll(host, capabilities)
      return
    case "time":
      plane.pass(pick([1, 90_000]))
  }
}

describe("hosts that say whatever decodes", () => {
  for (let seed = 1; seed <= 12; seed += 1) {
    it.effect(`end neither the loop, nor the next start, nor a view (seed ${seed})`, () =>
      Effect.gen(function*() {
        const source = random(seed)
        const disk = new MemoryDisk("control plane")
        const plane = new Plane(yield* openJournal(disk))
        plane.publish(r1)
        for (let turn = 0; turn < 250; turn += 1) lie(plane, source)
        for (const state of [plane.state, new Plane(yield* openJournal(disk)).state]) {
          encodeHosts(Views.hosts(state, plane.now))
          encodeRolloutHosts(Views.rolloutHosts(state, plane.now, id)!)
          for (const host of ["h1", "h2", "h3"]) {
            const found = Views.why(state, plane.now, host) ?? assert.fail(`${host} is not known`)
            encodeExplanation(found)
            assert.isAbove(found.because.length, 20)
            if (found.standing !== "at-target") assert.isAbove(found.clearedBy?.length ?? 0, 10)
          }
          assert.strictEqual(HashMap.size(state.rollouts), 1)
        }
        const again = new Plane(yield* openJournal(disk))
        for (const host of ["h1", "h2", "h3"]) {
          assert.deepStrictEqual(again.recordOf(id, host), plane.recordOf(id, host))
        }
      }))
  }
})
