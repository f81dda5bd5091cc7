/** What `nixfleet-agent status` says of built journals: the document, and its text word for word. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { settings } from "../../src/Agent/Settings.ts"
import { entriesOf, type RolloutEntry, type State } from "../../src/Agent/State.ts"
import { readStatus } from "../../src/Agent/Status.ts"
import { renderStatus } from "../../src/Agent/Status/Text.ts"
import { type JournalReading, type Seen, statusOf } from "../../src/Agent/Status/View.ts"
import { type HostFact, learn } from "../../src/Rollout/Host.ts"
import { AgentStatusJson } from "../../src/Schema/AgentStatus.ts"
import type { GuardState } from "../../src/Schema/GuardOrder.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import { Bench, emptyState } from "../support/agentBench.ts"
import { second } from "../support/agentRig.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { configOn, wholeHost, writeJournal } from "../support/journalFiles.ts"
import {
  after,
  failing,
  histories,
  minutes,
  pending,
  prior,
  recordIn,
  samples,
  seconds,
  target
} from "../support/records.ts"

const config = settings({
  controlPlaneUrl: "https://cp.example",
  machineId: "h1",
  trustFile: "/trust.json",
  archiveSource: "/closures"
})

const answering = { answered: true, since: seconds(0), at: seconds(60) }

const seen = (given: Partial<Seen> = {}): Seen => ({
  config,
  now: minutes(2),
  agentRuns: true,
  pid: 17,
  profile: target,
  observed: { running: target, switches: [] },
  ...given
})

const entry = (record: HostRecord, given: Partial<RolloutEntry> = {}): RolloutEntry => ({
  record,
  bookkeeping: { openedSeq: 1, rollbackStarts: 0 },
  lane: { nextSeq: record.lastEventSeq + 1, firstKeptSeq: 1, parked: [] },
  transient: { probes: new Map() },
  ...given
})

const reading = (
  entries: ReadonlyArray<RolloutEntry>,
  state: Partial<State> = {},
  details: Partial<JournalReading["details"]> = {}
): JournalReading => ({
  state: {
    ...emptyState,
    hostname: "h1",
    contact: answering,
    rollouts: new Map(entries.map((one) => [one.record.rolloutId, one])),
    ...state
  },
  details: { rows: [], refused: [], rollbackStartedAt: new Map(), learnedAt: new Map(), ...details }
})

const textOf = (journal: JournalReading | undefined, given: Partial<Seen> = {}) =>
  renderStatus(statusOf(seen(given), journal)).split("\n")

/** What the current record waits for, as the text has it. */
const waitIn = (one: RolloutEntry, given: Partial<Seen> = {}, details: Partial<JournalReading["details"]> = {}) =>
  textOf(reading([one], {}, details), given).find((line) => line.startsWith("  waits"))?.slice("  waits    ".length)

describe("the guard", () => {
  const order = {
    rolloutId: "stable@aa11",
    attempt: 1,
    forwardRun: 1,
    rollbackRun: 1,
    closure: prior,
    expected: [target, prior]
  }
  const rows: ReadonlyArray<[string, GuardState, string | undefined]> = [
    ["none", { _tag: "None" }, undefined],
    [
      "armed",
      { _tag: "Armed", order, watched: true, leftMs: 60_000 },
      `guard    armed for stable@aa11: back to ${prior} without a sign of life of the agent until ` +
      "2026-05-16T01:03:00Z (in 1m)"
    ],
    [
      "gone with a reboot",
      { _tag: "Armed", order, watched: false, leftMs: 0 },
      "guard    of stable@aa11 is gone; the agent arms it again"
    ],
    [
      "at work",
      { _tag: "Fired", order, acting: true },
      `guard    fired for stable@aa11 and is taking the host back to ${prior}`
    ],
    [
      "done",
      { _tag: "Fired", order, acting: false },
      `guard    fired for stable@aa11 and has taken the host back to ${prior}`
    ]
  ]
  it.each(rows)("%s", (_, guard, expected) => {
    const text = textOf(undefined, { observed: { running: target, switches: [], guard } })
    assert.strictEqual(text.find((line) => line.startsWith("guard")), expected)
  })
})

const started = after(pending(), [samples.DispatchAck, samples.ActivationStarted])
const switchId = { rolloutId: "stable@aa11", attempt: 1, purpose: "forward", run: 1 } as const
const soak = recordIn("Soaking")
const probed = (...events: Parameters<typeof after>[1]) =>
  after(pending(), [...histories.Soaking, samples.ProbeTopologyDeclared, ...events], { origin: "Remote" })
const noted = (events: Parameters<typeof after>[1], fact: HostFact) => learn(probed(...events), fact)
const failed = recordIn("Failed")
const rolling = entry(failed, { bookkeeping: { openedSeq: 1, rollbackStarts: 1 } })
const rollbackId = { ...switchId, purpose: "rollback" } as const

describe("the current record waits", () => {
  const cases: ReadonlyArray<readonly [string, string | undefined, string | undefined]> = [
    [
      "the switch to be prepared",
      waitIn(entry(recordIn("Activating")), { observed: { running: prior, switches: [] } }),
      `prepares the switch to ${target}; until 2026-05-16T01:30:01Z (in 28m)`
    ],
    [
      "its closure to be fetched",
      waitIn(entry(recordIn("Activating")), {
        observed: { running: prior, switches: [] },
        fetching: { closure: target, doneBytes: 31_900_000, expectedBytes: 120_000_000 }
      }),
      `fetches ${target}: 31 of 120 MB; until 2026-05-16T01:30:01Z (in 28m)`
    ],
    [
      "its closure to be fetched, and nobody knows how large it is",
      waitIn(entry(recordIn("Activating")), {
        observed: { running: prior, switches: [] },
        fetching: { closure: target, doneBytes: 31_900 }
      }),
      `fetches ${target}: 31 kB; until 2026-05-16T01:30:01Z (in 28m)`
    ],
    [
      "the switch to be prepared, while another closure is fetched",
      waitIn(entry(recordIn("Activating")), {
        observed: { running: prior, switches: [] },
        fetching: { closure: prior, doneBytes: 1, expectedBytes: 2 }
      }),
      `prepares the switch to ${target}; until 2026-05-16T01:30:01Z (in 28m)`
    ],
    [
      "the end of the switch that runs",
      waitIn(entry(started), {
        observed: { running: prior, switches: [{ id: switchId, state: { _tag: "Running" } }] }
      }),
      "the switch runs since 2026-05-16T01:00:02Z; until 2026-05-16T01:05:02Z (in 3m)"
    ],
    [
      "the second start of a switch that was lost",
      waitIn(entry(started), { observed: { running: prior, switches: [{ id: switchId, state: { _tag: "Lost" } }] } }),
      `prepares the switch to ${target}, once more because the first switch left no result; until 2026-05-16T01:30:01Z ` +
      "(in 28m)"
    ],
    [
      "its result to be journaled",
      waitIn(entry(started), {
        observed: { running: target, switches: [{ id: switchId, state: { _tag: "Exited", code: 0, stderrTail: "" } }] }
      }),
      "what came of the switch (ActivationCompleted) is about to be journaled"
    ],
    [
      "the result of a switch that cannot be read",
      waitIn(entry(started)),
      "held: run 1 was not read yet (switch-unread)"
    ],
    [
      "a reboot",
      waitIn(entry(recordIn("Deferred"))),
      `a reboot into ${target} (kernel); until 2026-05-23T01:00:05Z (in 6d 23h)`
    ],
    [
      "the end of the soak, then its probes",
      waitIn(entry(probed())),
      "soaks; besides, probe web has not passed since the activation; until 2026-05-16T01:05:05Z (in 3m)"
    ],
    [
      "the end of the soak",
      waitIn(entry(probed(samples.ProbeResult))),
      "soaks; until 2026-05-16T01:05:05Z (in 3m)"
    ],
    [
      "a probe that has to stop failing",
      waitIn(entry(probed(failing(seconds(30)))), {}),
      "probe web fails since 2026-05-16T01:00:30Z: the rollout fails if it goes on; until 2026-05-16T01:02:30Z (in 30s)"
    ],
    [
      "a probe that has to stop failing, with what it says",
      waitIn(entry(probed({ ...failing(seconds(30)), failureReason: "GET / answered 500" })), {}),
      "probe web fails since 2026-05-16T01:00:30Z: the rollout fails if it goes on; it says: GET / answered 500; " +
      "until 2026-05-16T01:02:30Z (in 30s)"
    ],
    [
      "a probe that failed before the switch already",
      waitIn(entry(noted([{ ...failing(seconds(30)), failureReason: "500" }], { kind: "Excused", probes: ["web"] }))),
      "soaks; besides, probe web has failed since before the switch: 500; until 2026-05-16T01:05:05Z (in 3m)"
    ],
    [
      "a probe that cannot be run, also after it had passed",
      waitIn(
        entry(noted([samples.ProbeResult], {
          kind: "Inconclusive",
          probeName: "web",
          since: seconds(30),
          reason: "no systemd"
        })),
        { now: minutes(10) },
        { learnedAt: new Map([["stable@aa11", seconds(5)]]) }
      ),
      "probe web could not be run: no systemd"
    ],
    [
      "its probe, when only that is missing",
      waitIn(entry(probed()), { now: minutes(10) }, { learnedAt: new Map([["stable@aa11", seconds(5)]]) }),
      "probe web has not passed since the activation"
    ],
    [
      "nothing but the next tick",
      waitIn(entry(probed(samples.ProbeResult)), { now: minutes(10) }),
      "the soak is over: about to converge"
    ],
    [
      "the target to run again",
      waitIn(entry(soak), { observed: { running: "other", switches: [] } }),
      "other runs instead of the target: the rollout fails when that lasts 60 s (closure-drift)"
    ],
    [
      "an agent, where none runs",
      waitIn(entry(probed(samples.ProbeResult)), { agentRuns: false }),
      "the soak stands still without an agent, 300 s are left"
    ],
    ["the rollback to be prepared", waitIn(entry(failed)), `prepares the rollback to ${prior}`],
    [
      "the rollback that runs",
      waitIn(rolling, { observed: { running: target, switches: [{ id: rollbackId, state: { _tag: "Running" } }] } }, {
        rollbackStartedAt: new Map([["stable@aa11", seconds(100)]])
      }),
      "the rollback runs since 2026-05-16T01:01:40Z; until 2026-05-16T01:06:40Z (in 5m)"
    ],
    [
      "a person, when what runs was put there by somebody else",
      waitIn(entry(failed), { observed: { running: "other", switches: [] } }),
      "held: other was put there by somebody else (closure-drift)"
    ],
    [
      "a newer release, when the policy is to halt",
      waitIn(entry({ ...failed, policyApplied: "halt" })),
      "nothing: the policy says halt; a newer release goes on from here"
    ],
    ["nothing, once it has converged", waitIn(entry(recordIn("Converged"))), undefined],
    ["nothing, once it has gone back", waitIn(entry(recordIn("Reverted"))), undefined]
  ]
  for (const [what, found, expected] of cases) it(`for ${what}`, () => assert.strictEqual(found, expected))
})

describe("the host waits for", () => {
  const hostWait = (journal: JournalReading, given: Partial<Seen> = {}) =>
    statusOf(seen(given), journal).journal?.waitsFor.sentence

  it("an agent, a first answer, an answer, a dispatch", () => {
    assert.strictEqual(
      hostWait(reading([entry(soak)]), { agentRuns: false }),
      "no agent runs here: nothing goes on until one is started"
    )
    const { contact: _, ...unheard } = reading([]).state
    assert.strictEqual(hostWait({ ...reading([]), state: unheard }), "a first answer of https://cp.example")
    const silent = { answered: false, since: seconds(30), at: seconds(60) }
    assert.strictEqual(
      hostWait(reading([], { contact: silent })),
      "https://cp.example does not answer since 2026-05-16T01:00:30Z"
    )
    assert.strictEqual(hostWait(reading([])), "a dispatch: the control plane holds each poll for up to 60 s")
    assert.match(
      hostWait(reading([entry(probed(samples.ProbeResult))], { contact: silent })) ?? "",
      /^stable@aa11: soaks; besides/
    )
  })
})

describe("the text", () => {
  it("of a host on which no agent ever ran", () =>
    assert.deepStrictEqual(textOf(undefined, { agentRuns: false, observed: { running: undefined, switches: [] } }), [
      "host     h1, no agent runs",
      `runs     unknown, the next boot ${target}`,
      "journal  no agent ever ran on /var/lib/nixfleet-agent"
    ]))

  it("of a host where much is wrong names all of it, the current record first, without control characters", () => {
    const old = {
      ...recordIn("Soaking", { fields: { rolloutId: "stable@0001", signedAt: 1 } }),
      closedAt: seconds(90),
      diverged: true
    }
    const journal = reading([entry(old), entry(recordIn("Deferred"))], {
      contact: {
        answered: false,
        since: seconds(60),
        at: seconds(110),
        failure: { at: seconds(110), reason: "unexpected-status", detail: "answered \u001b[31m503" }
      },
      rejections: new Map([["stable@bb22", {
        rolloutId: "stable@bb22",
        reason: "stale",
        detail: "old",
        at: seconds(80)
      }]])
    }, {
      rows: [
        { rolloutId: "stable@aa11", delivery: "pending", count: 3, oldestAt: seconds(60) },
        { rolloutId: "stable@0001", delivery: "parked", count: 2, oldestAt: seconds(0) },
        { rolloutId: "stable@0001", delivery: "refused", count: 1, oldestAt: seconds(0) }
      ],
      refused: [{ rolloutId: "stable@0001", seq: 4, kind: "Converged", at: seconds(0), reason: "illegal-for-state" }]
    })
    assert.deepStrictEqual(textOf(journal), [
      "host     h1, an agent runs (process 17)",
      `runs     ${target}`,
      "control  https://cp.example does not answer since 2026-05-16T01:01:00Z (1m ago), last noted 10s ago: answered ?[31m503",
      "journal  j1, 3 events to deliver, 2 parked, 1 refused",
      "rejected stable@bb22 40s ago: stale, the artifact was signed longer ago than its channel allows (old)",
      "refused  Converged 4 of stable@0001, of 2m ago: illegal-for-state, the event is not legal in the record's state",
      `waits    stable@aa11: a reboot into ${target} (kernel); besides, https://cp.example does not answer since ` +
      "2026-05-16T01:01:00Z; until 2026-05-23T01:00:05Z (in 6d 23h)",
      "",
      "stable@aa11  Deferred since 2026-05-16T01:00:05Z (1m ago), current",
      `  target   ${target}`,
      "  events   3 to deliver, the oldest of 1m ago",
      `  waits    a reboot into ${target} (kernel); until 2026-05-23T01:00:05Z (in 6d 23h)`,
      "",
      "stable@0001  Soaking since 2026-05-16T01:00:05Z (1m ago), closed 30s ago",
      `  target   ${target}`,
      "  events   2 parked, the oldest of 2m ago; 1 refused, the oldest of 2m ago",
      "  differs  the control plane refused a change of this record's state"
    ])
  })

  it("says of a failed rollout why", () =>
    assert.include(textOf(reading([entry(failed)])).join("\n"), "current: an enforced probe failed for too long"))
})

describe("the document", () => {
  for (const state of ["Activating", "Deferred", "Soaking", "Converged", "Failed", "Reverted"] as const) {
    it(`of a record in ${state} is read as it was written`, () => {
      const status = statusOf(seen(), reading([entry(recordIn(state))]))
      const text = Schema.encodeSync(AgentStatusJson)(status)
      assert.deepStrictEqual(Schema.decodeUnknownSync(AgentStatusJson)(text), status)
    })
  }

  it.live("says what a journal on a disk holds", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      assert.isUndefined((yield* readStatus(configOn(directory), wholeHost)).journal)
      const bench = new Bench().soak()
      bench.pass(5 * second).sample("fail")
      bench.accept({ _tag: "HeartbeatFailed", reason: "unexpected-status", detail: "503" })
      bench.accept({
        _tag: "Delivered",
        rolloutId: "stable@01",
        seq: 1,
        kind: "DispatchAck",
        verdict: { _tag: "Parked", reason: "no-verdict" }
      })
      bench.accept({
        _tag: "Delivered",
        rolloutId: "stable@01",
        seq: 2,
        kind: "ActivationCompleted",
        verdict: { _tag: "Refused", reason: "invariant" }
      })
      yield* writeJournal(directory, bench)
      const { agent, journal } = yield* readStatus(configOn(directory), wholeHost)
      assert.deepStrictEqual(agent, { running: false })
      assert.deepStrictEqual(journal?.contact, {
        answered: false,
        since: 5 * second,
        at: 5 * second,
        failure: { at: 5 * second, reason: "unexpected-status", detail: "503" }
      })
      const [one] = journal?.rollouts ?? []
      assert.deepStrictEqual([one?.pending.count, one?.parked.count, one?.refused.count, one?.diverged], [
        entriesOf(bench.state)[0]!.record.lastEventSeq - 2,
        1,
        1,
        true
      ])
      assert.deepStrictEqual(journal?.refused.map(({ kind, reason }) => [kind, reason]), [[
        "ActivationCompleted",
        "invariant"
      ]])
    }))
})
