import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Random } from "effect"
import { Handshake } from "../../../src/Agent/Handshake.ts"
import { Intents } from "../../../src/Agent/Intents.ts"
import { heartbeat } from "../../../src/Workers/Agent/Heartbeat.ts"
import {
  ask,
  dispatch,
  elapse,
  entryOf,
  minute,
  newSystem,
  offer,
  oldSystem,
  type Parts,
  r1,
  Rig,
  second,
  settled,
  stateNow
} from "../../support/agentRig.ts"
import { heartbeatPath, idle, noContent, ok, Peer, type Script } from "../../support/scriptedPeer.ts"

const beating = <A, E>(peer: Peer, body: Effect.Effect<A, E, Parts>, rig = new Rig()) =>
  rig.still(
    Effect.gen(function*() {
      yield* Effect.forkScoped(heartbeat)
      yield* settled
      return yield* body
    }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
  )

const answering = (answer: Script): Script => (request, nth) =>
  request.path === heartbeatPath ? answer(request, nth) : idle(request, nth)

const deliver = Effect.forEach(
  ["DispatchAck", "ActivationFailed"] as const,
  (kind, index) => offer({ _tag: "Delivered", rolloutId: r1, seq: index + 1, kind, verdict: { _tag: "Applied" } })
)

/** A rollout that halted on a host which still runs what it ran before: its heartbeats name it, to the original too. */
const halted = Effect.gen(function*() {
  yield* offer(dispatch({ policy: { ...dispatch().policy, onHealthFailure: "halt" } }))
  const event = { kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: 0, attempt: 1 } as const
  yield* offer({ _tag: "Settled", rolloutId: r1, at: 0, event })
  yield* deliver
})

describe("a fetch", () => {
  it.effect("is told while it runs, to a control plane that keeps journals", () => {
    const rig = new Rig()
    const peer = new Peer(
      answering(() => ({ status: 200, headers: { "x-nixfleet-capabilities": "journal" }, body: "{}" }))
    )
    return beating(
      peer,
      Effect.gen(function*() {
        rig.host.progress = { closure: newSystem, doneBytes: 31, expectedBytes: 120 }
        yield* elapse(minute)
        rig.host.progress = { closure: newSystem, doneBytes: 40, expectedBytes: undefined }
        yield* elapse(minute)
        rig.host.progress = undefined
        yield* elapse(minute)
        assert.deepStrictEqual(peer.bodies(heartbeatPath).slice(-3).map((body) => body["fetching"]), [
          { closure: newSystem, done_bytes: 31, expected_bytes: 120 },
          { closure: newSystem, done_bytes: 40 },
          undefined
        ])
      }),
      rig
    )
  })
})

describe("the rhythm", () => {
  it.effect("is a handshake at once and then a heartbeat every 60 s", () => {
    const peer = new Peer(answering(() => ({ status: 200, body: "{}" })))
    return beating(
      peer,
      Effect.gen(function*() {
        yield* elapse(5 * minute)
        assert.deepStrictEqual(peer.times(heartbeatPath), [0, 60_000, 120_000, 180_000, 240_000, 300_000])
      })
    )
  })

  it.effect("skips the ticks that a slow answer missed", () => {
    const peer = new Peer(answering((_, nth) => ({ status: 200, body: "{}", afterMs: nth === 1 ? 130 * second : 0 })))
    return beating(
      peer,
      Effect.gen(function*() {
        yield* elapse(6 * minute)
        assert.deepStrictEqual(peer.times(heartbeatPath), [0, 60_000, 240_000, 300_000, 360_000])
      })
    )
  })

  it.effect("brings a heartbeat forward when the state changed, but not within a second of the last one", () => {
    const peer = new Peer(answering(() => ({ status: 200, body: "{}" })))
    return new Rig().still(
      Effect.gen(function*() {
        yield* Effect.forkScoped(heartbeat)
        yield* settled
        const { heartbeat: slot } = yield* Intents
        for (let ring = 0; ring < 5; ring++) slot.ring()
        yield* elapse(10 * second)
        slot.ring()
        yield* elapse(50 * second)
        assert.deepStrictEqual(peer.times(heartbeatPath), [0, 1000, 10_000, 60_000])
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  it.effect("backs off between one second and min(60 s, 2ⁿ s) while nobody answers", () => {
    const peer = new Peer(answering(() => ({ error: "unreachable" })))
    return beating(
      peer,
      Effect.gen(function*() {
        yield* elapse(10 * minute)
        const times = peer.times(heartbeatPath)
        assert.isAbove(times.length, 10)
        for (const [index, at] of times.entries()) {
          if (index === 0) continue
          const waited = at - times[index - 1]!
          assert.isAtLeast(waited, 1000)
          assert.isAtMost(waited, Math.min(60_000, 1000 * 2 ** index) + 1000, `failure ${index}`)
        }
      })
    )
  })

  it.effect("obeys Retry-After to the second", () => {
    const peer = new Peer(answering((_, nth) => nth === 0 ? { status: 503, headers: { "retry-after": "30" } } : ok({})))
    return beating(
      peer,
      Effect.gen(function*() {
        yield* elapse(29 * second)
        assert.deepStrictEqual(peer.times(heartbeatPath), [0])
        yield* elapse(second)
        assert.deepStrictEqual(peer.times(heartbeatPath), [0, 30_000, 30_000])
      })
    )
  })
})

describe("a heartbeat that fails", () => {
  it.effect("is told to the journal, and so is that they are answered again", () => {
    const peer = new Peer(answering((_, nth) => nth < 3 ? { status: 503, body: "{}" } : { status: 200, body: "{}" }))
    return beating(
      peer,
      Effect.gen(function*() {
        const failed = (yield* stateNow).contact
        assert.isFalse(failed?.answered)
        assert.strictEqual(failed?.failure?.reason, "unexpected-status")
        yield* elapse(2 * minute)
        assert.isTrue((yield* stateNow).contact?.answered)
      })
    )
  })

  it.effect("is followed by the next one, also while the journal cannot be written", () => {
    const peer = new Peer(answering(() => ({ status: 503, body: "{}" })))
    const rig = new Rig()
    return beating(
      peer,
      Effect.gen(function*() {
        yield* elapse(minute)
        // A commit is tried again every ten seconds: the disk is full for about ten minutes.
        rig.journalDisk.fail(...Array.from({ length: 60 }, () => "full" as const))
        const before = peer.times(heartbeatPath).length
        yield* elapse(10 * minute)
        assert.isAbove(peer.times(heartbeatPath).length - before, 8)
        yield* elapse(10 * minute)
        assert.isAbove((yield* stateNow).contact?.at ?? 0, 11 * minute)
      }),
      rig
    )
  })
})

describe("the handshake", () => {
  const isDone = Effect.gen(function*() {
    const waiting = yield* Effect.forkChild((yield* Handshake).done)
    yield* settled
    return Option.isSome(Option.fromNullishOr(waiting.pollUnsafe()))
  })

  const handshaking = (peer: Peer) =>
    new Rig().still(
      Effect.gen(function*() {
        yield* Effect.forkScoped(heartbeat)
        yield* settled
        return yield* isDone
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )

  it.effect("is done when a heartbeat was answered with 200", () =>
    Effect.gen(function*() {
      assert.isTrue(yield* handshaking(new Peer()))
    }))

  for (
    const [title, answer] of [
      ["503 with a body that reads like an answer", { status: 503, body: "{}" }],
      ["204", noContent],
      ["200 with a body that is no JSON", { status: 200, body: "<html>" }],
      ["200 with a snapshot of the wrong type", { status: 200, body: "{\"bootstrap_rollouts\":[1]}" }],
      ["nothing", { error: "timeout" }]
    ] as const
  ) {
    it.effect(`is not done by ${title}`, () =>
      Effect.gen(function*() {
        assert.isFalse(yield* handshaking(new Peer(answering(() => answer))))
      }))
  }

  it.effect("tells a capable control plane at once what the journal says, and an original one never", () => {
    const capablePeer = new Peer()
    const original = new Peer(answering(() => ({ status: 200, body: "{}" })))
    return Effect.gen(function*() {
      yield* handshaking(capablePeer)
      const [bare, full, ...more] = capablePeer.bodies(heartbeatPath)
      assert.deepStrictEqual(more, [])
      assert.deepStrictEqual(Object.keys(bare!).toSorted(), ["at", "hostname"])
      assert.strictEqual(full!["boot"], true)
      assert.strictEqual(full!["uptime_secs"], 42)
      assert.isString(full!["journal_id"])
      assert.deepStrictEqual(full!["digests"], [])

      yield* handshaking(original)
      assert.deepStrictEqual(original.bodies(heartbeatPath).map((body) => Object.keys(body).toSorted()), [[
        "at",
        "hostname"
      ]])
    })
  })

  it.effect("every request carries the protocol and our capabilities", () => {
    const peer = new Peer()
    return Effect.gen(function*() {
      yield* handshaking(peer)
      for (const { headers } of peer.asked) {
        assert.strictEqual(headers["x-nixfleet-protocol"], "1")
        assert.strictEqual(headers["x-nixfleet-capabilities"], "verdicts,journal,attempts")
      }
    })
  })
})

describe("what a heartbeat says", () => {
  const last = (peer: Peer) => peer.bodies(heartbeatPath).at(-1)!

  const told = (peer: Peer, rig = new Rig()) =>
    rig.still(
      Effect.gen(function*() {
        yield* ask({ _tag: "Tick", observed: oldSystem })
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(minute)
        const before = last(peer)
        yield* offer(dispatch())
        yield* elapse(minute)
        return { before, after: last(peer) }
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )

  it.effect("the running closure, but not while an activation is in flight", () =>
    Effect.gen(function*() {
      const { after, before } = yield* told(new Peer())
      assert.strictEqual(before["current_closure"], oldSystem)
      assert.isFalse(Object.hasOwn(after, "current_closure"))
    }))

  it.effect("a digest of the live rollout, and what waits to be delivered", () =>
    Effect.gen(function*() {
      const { after } = yield* told(new Peer())
      assert.deepStrictEqual(after["digests"], [
        { rollout_id: r1, state: "Activating", target_closure: newSystem, attempt: 1, last_event_seq: 1 }
      ])
      assert.deepStrictEqual(after["last_event_seq_by_rollout"], { [r1]: 1 })
      assert.strictEqual(after["pending_events"], 1)
      assert.strictEqual(after["rollout_id"], r1)
      assert.isFalse(after["boot"])
    }))

  it.effect("what could not be taken", () => {
    const peer = new Peer()
    return new Rig().still(
      Effect.gen(function*() {
        yield* Effect.forkScoped(heartbeat)
        yield* settled
        yield* offer({ _tag: "RejectedDispatch", rolloutId: r1, reason: "stale", detail: "x".repeat(5000), at: 7000 })
        yield* elapse(2 * second)
        const [rejection] = last(peer)["rejections"] as ReadonlyArray<Record<string, unknown>>
        assert.strictEqual(rejection!["reason"], "stale")
        assert.strictEqual(rejection!["rollout_id"], r1)
        assert.lengthOf(String(rejection!["detail"]), 1024)
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })
})

describe("what the answer does", () => {
  it.effect("replay_from makes delivered rows undelivered again", () => {
    const peer = new Peer(answering((_, nth) => nth < 2 ? ok({}) : ok({ replay_from: { [r1]: 1 } })))
    return new Rig().still(
      Effect.gen(function*() {
        yield* offer(dispatch())
        yield* offer({ _tag: "Delivered", rolloutId: r1, seq: 1, kind: "DispatchAck", verdict: { _tag: "Applied" } })
        assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 2)
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(minute)
        assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 1)
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  it.effect("the original's replay header counts for the rollout that the request named", () => {
    const peer = new Peer(
      answering((_, nth) => ({ status: 200, body: "{}", headers: nth === 0 ? {} : { "x-nixfleet-replay-from": "0" } }))
    )
    return new Rig().still(
      Effect.gen(function*() {
        yield* halted
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(minute)
        assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 1)
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  it.effect("the original is asked for its snapshots while the rollout is on its way: no rollout is named", () => {
    const peer = new Peer(answering(() => ({ status: 200, body: "{}" })))
    return new Rig().still(
      Effect.gen(function*() {
        yield* offer(dispatch())
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(2 * minute)
        for (const body of peer.bodies(heartbeatPath)) {
          assert.notProperty(body, "rollout_id")
          assert.notProperty(body, "current_closure")
        }
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  it.effect("the original's replay header names the last row that it holds: only what follows it goes again", () => {
    const peer = new Peer(
      answering((_, nth) => ({ status: 200, body: "{}", headers: nth === 0 ? {} : { "x-nixfleet-replay-from": "1" } }))
    )
    return new Rig().still(
      Effect.gen(function*() {
        yield* halted
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(minute)
        assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 2)
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  it.effect("the original's replay header has the same rows sent less and less often", () => {
    const peer = new Peer(
      answering((_, nth) => ({ status: 200, body: "{}", headers: nth === 0 ? {} : { "x-nixfleet-replay-from": "0" } }))
    )
    return new Rig().still(
      Effect.gen(function*() {
        yield* halted
        yield* Effect.forkScoped(heartbeat)
        let resent = 0
        for (let n = 0; n < 20; n += 1) {
          yield* elapse(minute)
          if ((yield* entryOf(r1)).lane.nextSeq > 1) continue
          resent += 1
          yield* deliver
        }
        assert.strictEqual(resent, 5)
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  it.effect("snapshots of an original control plane never switch anything", () => {
    const snapshot = {
      rolloutId: r1,
      hostname: "host-1",
      channel: "stable",
      state: "Pending",
      targetClosure: newSystem,
      dispatchedAt: "1970-01-01T00:00:00Z",
      lastEventSeq: 5
    }
    const rig = new Rig()
    const peer = new Peer(answering(() => ({ status: 200, body: JSON.stringify({ bootstrap_rollouts: [snapshot] }) })))
    return rig.live(
      Effect.gen(function*() {
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(5 * minute)
        assert.strictEqual(rig.host.running, oldSystem)
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })
})
