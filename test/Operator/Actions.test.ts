/** The commands that pause, hold, freeze and clear, against the control plane's own routes, decision and journal. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import type { ActionAnswer } from "../../src/ControlPlane/Input.ts"
import * as Views from "../../src/ControlPlane/Views.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { actionRow, inForceLines, takenLines } from "../../src/Operator/ActionText.ts"
import type { ActionTaken } from "../../src/Schema/Interventions.ts"
import { apiRig } from "../support/apiRig.ts"
import { Certificates } from "../support/certificates.ts"
import { closureOf, dispatched, openJournal, Plane, type Release } from "../support/controlPlane.ts"
import { cuttingProxy } from "../support/cuttingProxy.ts"
import { nixfleet } from "../support/operator.ts"
import { connection } from "../support/operatorConnection.ts"

const at = Date.UTC(2026, 5, 1, 12)
const hour = 3_600_000
const day = 24 * hour

const taken = (fields: Partial<ActionTaken> & Pick<ActionTaken, "action">): ActionTaken => ({
  actor: "alice",
  at,
  goOn: [],
  restarted: [],
  needNewRef: [],
  lifted: [],
  halted: [],
  ...fields
})

describe("what a command says", () => {
  const reason = "spare disk"
  const rolloutId = "stable@aa11"
  const cases: ReadonlyArray<readonly [ActionTaken, string]> = [
    [
      taken({ action: { action: "PauseRollout", rolloutId, reason, until: at + day }, goOn: ["h1", "h2"] }),
      "stable@aa11 is paused until 2026-06-02T12:00:00Z (in 1d 0h)\nunder way already, and going on: h1, h2"
    ],
    [taken({ action: { action: "ResumeRollout", rolloutId, reason } }), "stable@aa11 goes on"],
    [
      taken({ action: { action: "HoldHost", host: "h1", reason, until: at + hour } }),
      "h1 is held until 2026-06-01T13:00:00Z (in 1h 0m)"
    ],
    [taken({ action: { action: "ReleaseHost", host: "h1", reason } }), "h1 is free again"],
    [
      taken({
        action: { action: "Freeze", channel: null, reason, until: at + hour },
        goOn: Array.from({ length: 12 }, (_, index) => `h${index}`)
      }),
      "all channels are frozen until 2026-06-01T13:00:00Z (in 1h 0m)\n" +
      "under way already, and going on: h0, h1, h2, h3, h4, h5, h6, h7, h8, h9 and 2 more"
    ],
    [taken({ action: { action: "Unfreeze", channel: null, reason } }), "all channels dispatch again"],
    [taken({ action: { action: "Unfreeze", channel: "edge", reason } }), "channel edge dispatches again"],
    [
      taken({
        action: { action: "ClearRollout", rolloutId, reason },
        restarted: ["h1", "h2"],
        needNewRef: ["h2"],
        lifted: [{ rolloutId, closure: "c-web" }]
      }),
      "stable@aa11 rolls again\nbegin their next attempt: h1, h2\n" +
      "do a rollout only once, and need a new ref on the channel: h2\nout of quarantine: c-web (stable@aa11)"
    ],
    [
      taken({
        action: { action: "ClearQuarantine", of: { closure: "c-web" }, reason },
        lifted: [{ rolloutId, closure: "c-web" }],
        halted: [rolloutId]
      }),
      "closure c-web is out of quarantine\nout of quarantine: c-web (stable@aa11)\n" +
      "still halted: stable@aa11; nixfleet rollout clear stable@aa11 restarts it"
    ]
  ]
  for (const [answer, text] of cases) {
    it(`${answer.action.action}: ${text.split("\n")[0]}`, () => assert.strictEqual(takenLines(answer), text))
  }

  it("what holds is one line, and a reason cannot steer a terminal", () => {
    const action = { action: "HoldHost", host: "h1", reason: "look \u202e here", until: at + hour } as const
    assert.deepStrictEqual(inForceLines({ inForce: [{ action, actor: "alice", at }], recent: [] }, at), [
      "h1 is held by alice until 2026-06-01T13:00:00Z (in 1h 0m): \"look ? here\""
    ])
  })

  it.each([
    [20_000, "20s"],
    [90_000, "2m"],
    [hour + 50 * 60_000, "1h 50m"],
    [2 * hour - 900, "2h 0m"],
    [7 * day - 900, "7d 0h"]
  ])("%d ms are left: %s", (ms, left) => {
    const action = { action: "Freeze", channel: null, reason: "x", until: at + ms } as const
    assert.match(
      inForceLines({ inForce: [{ action, actor: "alice", at }], recent: [] }, at)[0] ?? "",
      RegExp(`\\(in ${left}\\)`)
    )
  })

  it("what ended by itself has no name beside it", () => {
    const row = actionRow({
      action: { action: "ReleaseHost", host: "h1", reason: "its time is over" },
      actor: null,
      at
    })
    assert.deepStrictEqual(row.map(({ text }) => text), [
      "2026-06-01T12:00:00Z",
      "by itself",
      "ReleaseHost",
      "host h1",
      "its time is over"
    ])
  })
})

const release: Release = { ref: "aa11", waves: [["h1", "h2"]], signedAt: Date.now() }

/** A control plane on which everybody was heard, and its commands as an operator of this name. */
const controlPlane = Effect.fnUntraced(function*(name = "operator-ada") {
  const journal = yield* openJournal(new MemoryDisk("control plane"))
  const plane = new Plane(journal)
  plane.now = Date.now()
  plane.publish(release)
  plane.hear(release)
  const rig = yield* apiRig({
    inbox: {
      event: () => Effect.die("unused"),
      heartbeat: () => Effect.die("unused"),
      issuance: () => Effect.die("unused"),
      action: (input) =>
        Effect.sync(() => {
          plane.now = Date.now()
          return plane.offer(input) as ActionAnswer
        }),
      offer: () => false
    },
    state: () => plane.state,
    projections: Views,
    recentActions: journal.recentActions
  })
  const { flags, values } = yield* connection(name, rig.handler)
  const run = (...args: ReadonlyArray<string>) => nixfleet([...args, ...flags])
  /** The same, over a connection that loses the answer. */
  const runCut = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
    const proxy = yield* cuttingProxy(Number(new URL(values.cpUrl).port))
    proxy.cutting = true
    const through = flags.map((flag) => flag === values.cpUrl ? `https://localhost:${proxy.port}` : flag)
    return yield* nixfleet([...args, ...through])
  })
  return { plane, run, runCut }
})

describe("an end that no time can hold", () => {
  it.effect("is a wrong command line, and nobody is asked", () =>
    Effect.gen(function*() {
      const { code, err } = yield* nixfleet(["freeze", "--reason", "x", "--for", "999999999d"])
      assert.strictEqual(code, 64)
      assert.include(err, "at most 90 days")
    }))
})

describe("the commands", () => {
  layer(Certificates.layer, { excludeTestServices: true })((live) => {
    live.effect("do not say that nothing was done when the answer was lost", () =>
      Effect.gen(function*() {
        const { plane, runCut } = yield* controlPlane()
        const { code, err } = yield* runCut("freeze", "--for", "1h", "--reason", "release day")
        assert.strictEqual(code, 1)
        assert.include(err, "whether it was done is not known: see `nixfleet actions`")
        assert.strictEqual([...plane.state.interventions].length, 1)
        const { err: ofReading } = yield* runCut("actions")
        assert.notInclude(ofReading, "whether it was done")
      }))

    live.effect("pause and resume a rollout", () =>
      Effect.gen(function*() {
        const { plane, run } = yield* controlPlane()
        const paused = yield* run("rollout", "pause", "stable@aa11", "--reason", "spare disk")
        assert.strictEqual(paused.code, 0, paused.err)
        assert.match(paused.out, /^stable@aa11 is paused until \S+Z \(in 1d 0h\)$/)
        const action = [...plane.state.interventions].map((
          [, { action: one, actor }]
        ) => [one.until - plane.now, actor])
        assert.approximately(Number(action[0]?.[0]), day, 60_000, "24 hours without another word")
        assert.strictEqual(action[0]?.[1], "operator-ada", "the certificate says who")
        const shown = yield* run("actions")
        assert.match(
          shown.out,
          /^stable@aa11 is paused by operator-ada until \S+ \(in 1d 0h\): "spare disk"\n\nAT +BY +ACTION/
        )
        assert.match(shown.out, /operator-ada +PauseRollout +rollout stable@aa11 +spare disk$/)
        const resumed = yield* run("rollout", "resume", "stable@aa11", "--reason", "done")
        assert.deepStrictEqual([resumed.code, resumed.out], [0, "stable@aa11 goes on"])
        assert.match((yield* run("actions")).out, /^nothing is paused, held or frozen\n/)
      }))

    live.effect("hold and release a host", () =>
      Effect.gen(function*() {
        const { plane, run } = yield* controlPlane()
        const held = yield* run("host", "hold", "h1", "--reason", "spare disk", "--json")
        assert.strictEqual(held.code, 0, held.err)
        assert.deepInclude(JSON.parse(held.out), { actor: "operator-ada", goOn: [] })
        assert.approximately([...plane.state.interventions][0]![1].action.until - plane.now, 7 * day, 60_000)
        assert.isUndefined(plane.poll("h1"))
        const released = yield* run("host", "release", "h1", "--reason", "done")
        assert.deepStrictEqual([released.code, released.out], [0, "h1 is free again"])
        assert.isDefined(plane.poll("h1"))
      }))

    live.effect("freeze and unfreeze a channel, or all", () =>
      Effect.gen(function*() {
        const { plane, run } = yield* controlPlane()
        const until = new Date(plane.now + 2 * hour).toISOString()
        const one = yield* run("freeze", "--channel", "stable", "--until", until, "--reason", "release day")
        assert.match(one.out, /^channel stable is frozen until /, one.err)
        const all = yield* run("freeze", "--for", "3d", "--reason", "release day")
        assert.match(all.out, /^all channels are frozen until /, all.err)
        assert.strictEqual((yield* run("unfreeze", "--reason", "over")).out, "all channels dispatch again")
        assert.isUndefined(plane.poll("h1"))
        const last = yield* run("unfreeze", "--channel", "stable", "--reason", "over")
        assert.strictEqual(last.out, "channel stable dispatches again")
        assert.isDefined(plane.poll("h1"))
      }))

    live.effect("status shows what holds, one line each above its table", () =>
      Effect.gen(function*() {
        const { run } = yield* controlPlane()
        const before = yield* run("status")
        assert.match(before.out, /^HOST /, before.err)
        yield* run("host", "hold", "h1", "--for", "2h", "--reason", "spare disk")
        yield* run("freeze", "--for", "1h", "--reason", "release day")
        const lines = (yield* run("status")).out.split("\n")
        assert.match(lines[0] ?? "", /^all channels are frozen by operator-ada until \S+ \(in 1h 0m\): "release day"$/)
        assert.match(lines[1] ?? "", /^h1 is held by operator-ada until \S+ \(in 2h 0m\): "spare disk"$/)
        assert.match(lines[2] ?? "", /^HOST /)
        const json = JSON.parse((yield* run("status", "--json")).out)
        assert.lengthOf(json.actions.inForce, 2)
      }))

    live.effect("clear a halted rollout, and list and clear what is in quarantine", () =>
      Effect.gen(function*() {
        const { plane, run } = yield* controlPlane()
        assert.strictEqual((yield* run("quarantine", "list")).out, "nothing is in quarantine")
        const h1 = dispatched(plane, "h1")
        h1.soaks(plane)
        h1.rollsBack(plane)
        const closure = closureOf("aa11", "h1")
        const listed = yield* run("quarantine", "list")
        assert.match(listed.out, new RegExp(`^CLOSURE +ROLLOUT +FAILED ON +SINCE\n${closure} +stable@aa11 +h1 +\\S+Z$`))
        const lifted = yield* run("quarantine", "clear", closure, "--reason", "network was down")
        assert.match(
          lifted.out,
          /still halted: stable@aa11; nixfleet rollout clear stable@aa11 restarts it$/,
          lifted.err
        )
        const cleared = yield* run("rollout", "clear", "stable@aa11", "--reason", "network is back")
        assert.strictEqual(cleared.out, "stable@aa11 rolls again\nbegin their next attempt: h1", cleared.err)
        assert.strictEqual(plane.poll("h1")?.attempt, 2)
        const again = yield* run("rollout", "clear", "stable@aa11", "--reason", "network is back")
        assert.deepStrictEqual([again.code, again.out], [1, ""])
        assert.include(again.err, "stable@aa11 is Active, and no host of it has failed (rollout-not-halted)")
      }))

    live.effect("say in one sentence what the control plane refuses, exit 1", () =>
      Effect.gen(function*() {
        const { plane, run } = yield* controlPlane()
        const rows = plane.writes.length
        const cases: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
          [["rollout", "pause", "stable@ff"], "there is no rollout stable@ff (rollout-unknown)"],
          [["rollout", "resume", "stable@aa11"], "no pause of rollout stable@aa11 is in force (action-not-in-force)"],
          [["host", "hold", "nobody"], "no host nobody is in the fleet (host-unknown)"],
          [["freeze", "--channel", "edge", "--for", "1h"], "no channel edge is in the fleet (channel-unknown)"],
          [["freeze", "--for", "91d"], "is more than 90 days away (until-too-far)"],
          [["freeze", "--for", "0"], "is over already (until-passed)"],
          [["quarantine", "clear", closureOf("aa11", "h1")], "is in quarantine (quarantine-unknown)"]
        ]
        for (const [args, text] of cases) {
          const { code, err, out } = yield* run(...args, "--reason", "a test")
          assert.deepStrictEqual([code, out], [1, ""], args.join(" "))
          assert.include(err, text)
        }
        assert.strictEqual(plane.writes.length, rows)
      }))

    live.effect("say what is wrong with a command line before anything is sent, exit 64", () =>
      Effect.gen(function*() {
        const { plane, run } = yield* controlPlane()
        const rows = plane.writes.length
        const cases: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
          [["rollout", "pause", "stable@aa11"], /reason/],
          [["rollout", "pause", "stable@aa11", "--reason", " "], /--reason: expected 1 to 500 characters/],
          [["rollout", "pause", "stable@aa11", "--reason", "x".repeat(501)], /--reason: expected 1 to 500 characters/],
          [["rollout", "pause", "stable@aa11", "--reason", "two\nlines"], /on one line/],
          [["rollout", "pause", "stable", "--reason", "x"], /is not a rollout/],
          [["host", "hold", "-", "--reason", "x"], /is not a host name|-/],
          [["host", "hold", "a/b", "--reason", "x"], /is not a host name/],
          [["host", "hold", "h1", "--reason", "x", "--until", "tomorrow"], /--until "tomorrow" is not a time/],
          [["host", "hold", "h1", "--reason", "x", "--for", "soon"], /--for "soon" is not a time/],
          [["host", "hold", "h1", "--reason", "x", "--for", "1h", "--until", "2026-12-01T08:00:00Z"], /give one/],
          [["freeze", "--reason", "x"], /give --until TIME or --for DURATION: what is frozen must end/],
          [["freeze", "--reason", "x", "--for", "1h", "--channel", "Stable"], /is not a channel/],
          [["quarantine", "clear", "x/y", "--reason", "x"], /is neither a closure nor a rollout/]
        ]
        for (const [args, problem] of cases) {
          const { code, err, out } = yield* run(...args)
          assert.strictEqual(code, 64, `${args.join(" ")}: ${out}${err}`)
          assert.match(err + out, problem)
        }
        assert.strictEqual(plane.writes.length, rows)
      }))

    live.effect("a host's certificate may do none of it", () =>
      Effect.gen(function*() {
        const { plane, run } = yield* controlPlane("agent-h1.fleet.test")
        const rows = plane.writes.length
        const { code, err } = yield* run("host", "release", "h1", "--reason", "let me go")
        assert.strictEqual(code, 1)
        assert.match(err, /refuses this certificate \(403\)/)
        assert.strictEqual(plane.writes.length, rows)
      }))
  })
})
