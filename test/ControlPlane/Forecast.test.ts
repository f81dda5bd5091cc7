import { assert, describe, it } from "@effect/vitest"
import { HashMap, Result } from "effect"
import { type Forecast, forecast } from "../../src/ControlPlane/Forecast.ts"
import { assumedActivationMs, expectedDurations } from "../../src/ControlPlane/ForecastDurations.ts"
import { readSnapshot } from "../../src/ControlPlane/Snapshot.ts"
import {
  closureOf,
  dispatched,
  idOf,
  Plane,
  probe,
  reference,
  type Release,
  soakMs,
  start,
  unitOf
} from "../support/controlPlane.ts"
import { published, snapshotText } from "../support/snapshots.ts"

const minutes = 60_000
const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const all = ["h1", "h2", "h3"]

const told = (plane: Plane, ...releases: ReadonlyArray<Release>): Forecast =>
  forecast(plane.state, unitOf(...releases), plane.now)

/** Dispatch, switch and convergence of each host in the order in which they go: minutes from now, `-` where there is none. */
const times = ({ from, rollouts }: Forecast, channel = "stable") =>
  (rollouts.find((one) => one.channel === channel)?.hosts ?? []).map(
    ({ activatedAt, convergedAt, dispatchedAt, host }) => {
      const at = (time: number | undefined) => time === undefined ? "-" : String((time - from) / minutes)
      return `${host} ${at(dispatchedAt)} ${at(activatedAt)} ${at(convergedAt)}`
    }
  )

/** A plane on which a release has converged everywhere, each activation lasting as long as is said. */
function settled(release: Release, activationMs: (host: string) => number = () => 2 * minutes): Plane {
  const plane = new Plane()
  plane.publish(release)
  plane.hear(release)
  for (const wave of release.waves) {
    for (const host of wave) {
      const agent = dispatched(plane, host)
      agent.accepts(plane)
      plane.now += activationMs(host)
      agent.tells(plane, {
        kind: "ActivationCompleted",
        observedCurrentClosure: agent.record.targetClosure,
        exitCode: 0,
        completedAt: plane.now
      })
      agent.tells(plane, { kind: "ProbeTopologyDeclared", probes: [], declaredAt: plane.now })
      plane.pass(soakMs + Math.max(0, -activationMs(host)))
      agent.converges(plane)
      agent.reports(plane)
      plane.heartbeat(host, { digests: [agent.digest], current_closure: agent.record.targetClosure })
    }
  }
  return plane
}

describe("a forecast of a new fleet", () => {
  const cases: ReadonlyArray<readonly [name: string, release: Release, times: ReadonlyArray<string>]> = [
    ["one wave goes after the other", r1, ["h1 0 1 6", "h2 6 7 12", "h3 6 7 12"]],
    ["a budget lets its hosts go one by one", { ...r1, budgets: [{ hosts: all, maxInFlight: 1 }] }, [
      "h1 0 1 6",
      "h2 6 7 12",
      "h3 12 13 18"
    ]],
    ["a host waits for the one before it", { ...r1, edges: [["h3", "h2"]] }, ["h1 0 1 6", "h3 6 7 12", "h2 12 13 18"]],
    ["a wave without hosts takes no time", { ...r1, waves: [[], ["h1"], [], ["h2"]] }, ["h1 0 1 6", "h2 6 7 12"]]
  ]
  for (const [name, release, expected] of cases) {
    it(`knows that ${name}`, () => {
      const outlook = told(new Plane(), release)
      assert.deepStrictEqual(times(outlook), expected)
      const [rollout] = outlook.rollouts
      assert.deepStrictEqual([rollout?.state, outlook.isCut], ["Terminal", false])
      assert.strictEqual(rollout?.completeAt, start + Number(expected.at(-1)?.split(" ").at(-1)) * minutes)
      assert.isTrue(rollout?.hosts.every(({ before, stuck }) => before === "Pending" && stuck === undefined))
    })
  }

  it("a channel waits for the one before it", () => {
    const edge: Release = { channel: "edge", ref: "a1", waves: [["e1"]], after: ["stable"] }
    const outlook = told(new Plane(), r1, edge)
    assert.deepStrictEqual(outlook.rollouts.map(({ channel }) => channel), ["edge", "stable"])
    assert.deepStrictEqual(times(outlook, "edge"), ["e1 12 13 18"])
    assert.strictEqual(outlook.rollouts[0]?.hosts[0]?.waits?.gate, "channel-edges")
  })

  it("says when each wave begins and is complete, and why the others wait now", () => {
    const [rollout] = told(new Plane(), r1).rollouts
    assert.deepStrictEqual(rollout?.waves, [
      { wave: 0, hosts: 1, soakMs, startsAt: start, completeAt: start + 6 * minutes },
      { wave: 1, hosts: 2, soakMs, startsAt: start + 6 * minutes, completeAt: start + 12 * minutes }
    ])
    assert.deepStrictEqual(rollout?.hosts.map(({ waits }) => waits?.gate), [
      undefined,
      "wave-promotion",
      "wave-promotion"
    ])
  })

  it("is the same each time, and leaves the state as it is", () => {
    const plane = settled(r1)
    const before = { ...plane.state }
    const next: Release = { ...r1, ref: "b2", signedAt: plane.now }
    assert.deepStrictEqual(told(plane, next), told(plane, next))
    assert.deepStrictEqual(plane.state, before)
  })
})

describe("how long an activation is expected to take", () => {
  const next: Release = { ref: "b2", waves: [["h1", "h2", "h3", "h4"]], signedAt: start + 1 }

  it("is a host's own median in whole seconds, for others the median of those, and for a new fleet an assumption", () => {
    const plane = settled(r1, (host) => ({ h1: 61_400, h2: 120_000, h3: 200_700 }[host] ?? 0))
    const of = expectedDurations(plane.state)
    assert.deepStrictEqual([of("h1"), of("h2"), of("h3"), of("h4")], [
      { ms: 61_000, basis: "host" },
      { ms: 120_000, basis: "host" },
      { ms: 201_000, basis: "host" },
      { ms: 120_000, basis: "fleet" }
    ])
    assert.deepStrictEqual(expectedDurations(new Plane().state)("h1"), { ms: assumedActivationMs, basis: "assumed" })
    const activated = told(plane, next).rollouts[0]?.hosts.map(({ activatedAt }) => (activatedAt ?? 0) - plane.now)
    assert.deepStrictEqual(activated, [61_000, 120_000, 201_000, 120_000])
  })

  it("a clock that was set back says nothing", () => {
    assert.strictEqual(expectedDurations(settled(r1, () => -1).state)("h1").basis, "assumed")
  })
})

describe("a forecast from the middle of a rollout", () => {
  it("hosts that are under way go on from where they are", () => {
    const plane = settled(r1)
    const next: Release = { ref: "b2", waves: [all], signedAt: plane.now }
    plane.publish(next)
    const [switching, soaking] = [dispatched(plane, "h1"), dispatched(plane, "h2")]
    switching.accepts(plane)
    soaking.soaks(plane)
    plane.now += minutes
    const outlook = told(plane, next)
    assert.deepStrictEqual(times(outlook), ["h1 -1 1 6", "h2 -1 -1 4", "h3 0 2 7"])
    assert.deepStrictEqual(outlook.rollouts[0]?.hosts.map(({ before }) => before), [
      "Activating",
      "Soaking",
      "Pending"
    ])
  })

  it("which have told that since their last heartbeat go on as well, also in a snapshot", () => {
    const plane = new Plane()
    const artifacts = published(r1)
    plane.offer({ _tag: "ArtifactsVerified", artifacts })
    plane.hear(r1)
    dispatched(plane, "h1").soaks(plane)
    plane.now += minutes
    const snapshot = Result.getOrThrow(readSnapshot(snapshotText(plane.state, plane.now)))
    for (const state of [plane.state, snapshot.state]) {
      assert.strictEqual(times(forecast(state, artifacts, plane.now))[0], "h1 -1 -1 4")
    }
  })

  it("takes up their places in budgets however long they soak and nobody speaks", () => {
    const plane = settled(r1)
    const next: Release = { ref: "b2", waves: [all], budgets: [{ hosts: all, maxInFlight: 1 }], signedAt: plane.now }
    plane.publish(next)
    dispatched(plane, "h1").soaks(plane)
    for (let minute = 0; minute < 3; minute++) plane.pass(minutes)
    const short = { ...plane.state, limits: { ...plane.state.limits, silentMs: 2 * minutes } }
    assert.deepStrictEqual(times(forecast(short, unitOf(next), plane.now)), ["h1 -3 -3 2", "h2 2 4 9", "h3 9 11 16"])
  })

  it("a host that left its dispatch unacknowledged, and gets none any more, keeps its place from nobody", () => {
    const budgeted: Release = { ref: "a1", waves: [all], budgets: [{ hosts: all, maxInFlight: 1 }] }
    const plane = new Plane()
    plane.publish(budgeted)
    plane.hear(budgeted)
    dispatched(plane, "h1")
    plane.pass(120_000)
    const next: Release = { ...budgeted, ref: "b2", signedAt: plane.now, waves: [["h2", "h3"]] }
    assert.deepStrictEqual(times(told(plane, next)), ["h2 0 1 6", "h3 6 7 12"])
  })

  it("a dispatch that is on its way arrives once, and an acknowledgement that was lost holds nobody up", () => {
    const plane = settled(r1)
    const next: Release = { ref: "b2", waves: [all], budgets: [{ hosts: all, maxInFlight: 1 }], signedAt: plane.now }
    plane.publish(next)
    plane.poll("h1")
    assert.deepStrictEqual(times(told(plane, next)), ["h1 0 2 7", "h2 7 9 14", "h3 14 16 21"])
    plane.now += 10 * minutes
    plane.offer({ _tag: "LeaseSweep" })
    assert.deepStrictEqual(times(told(plane, next)), ["h1 -10 2 7", "h2 7 9 14", "h3 14 16 21"])
  })

  it("a host that is in the middle of a switch ends it before the next one", () => {
    const plane = settled(r1)
    const next: Release = { ref: "b2", waves: [all], signedAt: plane.now }
    plane.publish(next)
    dispatched(plane, "h1").accepts(plane)
    plane.now += minutes
    const newest: Release = { ref: "c3", waves: [all], signedAt: plane.now }
    assert.deepStrictEqual(times(told(plane, newest)), ["h1 0 3 8", "h2 0 2 7", "h3 0 2 7"])
  })

  it("hosts whose target stays the same have nothing to do", () => {
    const plane = settled(r1)
    const next: Release = { ...r1, ref: "b2", signedAt: plane.now, closures: { h1: closureOf("a1", "h1") } }
    const outlook = told(plane, next)
    assert.deepStrictEqual(times(outlook).slice(0, 2), ["h2 0 2 7", "h3 0 2 7"])
    const carried = outlook.rollouts[0]?.hosts.find(({ host }) => host === "h1")
    assert.deepStrictEqual([carried?.before, carried?.dispatchedAt], ["Converged", undefined])
  })

  it("a release that is in force already, and complete, has nothing to come", () => {
    const plane = settled(r1)
    const outlook = told(plane, r1)
    assert.strictEqual(outlook.rollouts[0]?.completeAt, undefined)
    assert.isTrue(outlook.rollouts[0]?.hosts.every(({ convergedAt }) => (convergedAt ?? Infinity) <= plane.now))
  })

  it("a channel that was never heard here is heard now", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.heartbeat("h1")
    plane.now += 1000
    assert.isDefined(HashMap.toValues(plane.state.channels)[0]?.recovery)
    assert.deepStrictEqual(times(told(plane, r1)), ["h1 0 1 6", "h2 6 7 12", "h3 6 7 12"])
  })

  it("agents of the original go the same way", () => {
    const plane = new Plane()
    for (const host of all) plane.heartbeat(host, {}, reference)
    assert.deepStrictEqual(times(told(plane, r1)), ["h1 0 1 6", "h2 6 7 12", "h3 6 7 12"])
  })

  it("probes that were declared and fail now pass when the soak is due", () => {
    const plane = settled(r1)
    const next: Release = { ref: "b2", waves: [["h1"]], signedAt: plane.now }
    plane.publish(next)
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    agent.tells(plane, probe("fail", plane.now))
    const outlook = told(plane, next)
    assert.deepStrictEqual(times(outlook), ["h1 0 0 5"])
    assert.strictEqual(outlook.rollouts[0]?.state, "Terminal")
  })
})

describe("who gets nowhere", () => {
  const next = (plane: Plane): Release => ({ ...r1, ref: "b2", signedAt: plane.now })

  it("a failed host stays so, and halts the others", () => {
    const plane = settled(r1)
    plane.publish(next(plane))
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    agent.rollsBack(plane)
    const [rollout] = told(plane, { ...r1, ref: "b2", signedAt: start + 1 }).rollouts
    assert.strictEqual(rollout?.completeAt, undefined)
    assert.deepStrictEqual(
      rollout?.hosts.map(({ after, host, stuck }) => [host, after, stuck?.gate, stuck?.because.slice(0, 24)]),
      [
        ["h1", "Reverted", undefined, "was rolled back"],
        ["h2", "Pending", "rollout-state", "the rollout is halted: i"],
        ["h3", "Pending", "rollout-state", "the rollout is halted: i"]
      ]
    )
  })

  it("a host that waits for its reboot holds its wave", () => {
    const plane = settled(r1)
    const release = next(plane)
    plane.publish(release)
    const agent = dispatched(plane, "h1")
    agent.accepts(plane)
    agent.tells(plane, { kind: "ActivationDeferred", component: "kernel", deferredAt: plane.now })
    const [rollout] = told(plane, release).rollouts
    assert.deepStrictEqual(rollout?.hosts.map(({ stuck }) => stuck?.because), [
      "waits for reboot of kernel",
      "wave 1 of 2 is not complete: h1 waits for reboot of kernel",
      "wave 1 of 2 is not complete: h1 waits for reboot of kernel"
    ])
  })

  it("a budget of nobody, and hosts that wait for each other, never go", () => {
    const budget = told(new Plane(), { ...r1, budgets: [{ hosts: ["h2"], maxInFlight: 0 }] })
    assert.deepStrictEqual(times(budget), ["h1 0 1 6", "h3 6 7 12", "h2 - - -"])
    assert.strictEqual(budget.rollouts[0]?.hosts[2]?.stuck?.gate, "disruption-budget")
    const circle = told(new Plane(), { ...r1, edges: [["h2", "h3"], ["h3", "h2"]] })
    assert.deepStrictEqual(circle.rollouts[0]?.hosts.map(({ stuck }) => stuck?.gate), [
      undefined,
      "host-edges",
      "host-edges"
    ])
  })

  it("a revoked host is not let in", () => {
    const plane = settled(r1)
    const list = { signedAt: start, hash: "x", revocations: [{ hostname: "h1", notBefore: start + 1 }] }
    const revoked = { ...plane.state.identities, revocations: { list, entries: HashMap.make(["h1", start + 1]) } }
    const outlook = forecast({ ...plane.state, identities: revoked }, unitOf(next(plane)), plane.now)
    assert.deepStrictEqual(times(outlook), ["h1 - - -", "h2 - - -", "h3 - - -"])
  })
})

describe("what only time ends", () => {
  it("a channel that is frozen begins when that is over", () => {
    const plane = settled(r1)
    const until = plane.now + 60 * minutes
    plane.act({ action: "Freeze", channel: "stable", reason: "database migration", until })
    const outlook = told(plane, { ...r1, ref: "b2", signedAt: plane.now })
    assert.deepStrictEqual(times(outlook), ["h1 60 62 67", "h2 67 69 74", "h3 67 69 74"])
    assert.deepStrictEqual(outlook.rollouts[0]?.hosts.map(({ waits }) => waits?.gate), ["frozen", "frozen", "frozen"])
  })

  it("a host that is held goes at the end of it, and its wave does not wait", () => {
    const plane = settled(r1)
    plane.act({ action: "HoldHost", host: "h2", reason: "in repair", until: plane.now + 30 * minutes })
    const outlook = told(plane, { ...r1, ref: "b2", signedAt: plane.now })
    assert.deepStrictEqual(times(outlook), ["h1 0 2 7", "h3 7 9 14", "h2 30 32 37"])
    const [rollout] = outlook.rollouts
    assert.deepStrictEqual(rollout?.waves.map(({ completeAt }) => ((completeAt ?? 0) - plane.now) / minutes), [7, 37])
    assert.strictEqual(rollout?.completeAt, plane.now + 37 * minutes)
  })

  it("a pause after a rejection ends by itself", () => {
    const plane = settled(r1)
    const release: Release = { ref: "b2", waves: [["h1"]], signedAt: plane.now }
    plane.publish(release)
    plane.poll("h1")
    const rejections = [{ rollout_id: idOf(release), reason: "stale", detail: "", at: plane.now }]
    plane.heartbeat("h1", { rejections })
    const [host] = told(plane, release).rollouts[0]?.hosts ?? []
    assert.strictEqual(host?.after, "Converged")
  })

  it("a release is signed anew before it grows old", () => {
    const slow: Release = { ref: "a1", waves: [["h1"], ["h2"], ["h3"]], signedAt: start - 179 * minutes }
    assert.deepStrictEqual(times(told(new Plane(), slow)), ["h1 0 1 6", "h2 6 7 12", "h3 12 13 18"])
  })
})

describe("a large fleet", () => {
  it("is told to its end, whoever goes one by one", () => {
    const hosts = Array.from({ length: 300 }, (_, index) => `h${String(index).padStart(3, "0")}`)
    const outlook = told(new Plane(), { ref: "a1", waves: [hosts], budgets: [{ hosts, maxInFlight: 1 }] })
    assert.strictEqual(outlook.rollouts[0]?.completeAt, start + 300 * 6 * minutes)
    assert.strictEqual(new Set(times(outlook)).size, 300)
  })

  it("that would take too long is told as far as it goes", () => {
    const release: Release = { ...r1, budgets: [{ hosts: all, maxInFlight: 1 }] }
    const outlook = forecast(new Plane().state, unitOf(release), start, 9)
    assert.deepStrictEqual([outlook.isCut, outlook.rollouts[0]?.completeAt], [true, undefined])
    assert.deepStrictEqual(times(outlook), ["h1 0 1 6", "h2 6 7 -", "h3 - - -"])
  })
})
