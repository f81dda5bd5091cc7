import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { TestClock } from "effect/testing"
import { Artifacts } from "../../src/Agent/Artifacts.ts"
import { SwitchPermit } from "../../src/Agent/SwitchPermit.ts"
import {
  closureOf,
  fleetPath,
  manifestPath,
  otherRelease,
  ref,
  release,
  releaseHost,
  rolloutId
} from "../support/agentReleases.ts"
import { dispatch, offer, Rig, stateNow } from "../support/agentRig.ts"
import { ed25519Key, seedOf, slot, trustJson } from "../support/artifacts.ts"
import { type Edges, idle, type Parts, Peer, publishing, type Script } from "../support/scriptedPeer.ts"

const target = closureOf("1")
const hour = 3_600_000

/** The service of one life of the process. */
const living = <A, E>(peer: Peer, body: Effect.Effect<A, E, Parts | Edges>, rig = new Rig({ hostname: releaseHost })) =>
  rig.still(body.pipe(Effect.provide(peer.layer)))

const forDispatch = (id = rolloutId, closure = target) =>
  Effect.flatMap(Artifacts, (artifacts) => artifacts.forDispatch(id, closure))
const refresh = Effect.flatMap(Artifacts, (artifacts) => artifacts.refresh)
const recheck = Effect.flatMap(Artifacts, (artifacts) => artifacts.recheck(rolloutId, target))

const accepted = Effect.fnUntraced(function*() {
  const verdict = yield* forDispatch()
  assert(
    Result.isSuccess(verdict),
    Result.isFailure(verdict) ? `${verdict.failure.reason}: ${verdict.failure.detail}` : ""
  )
  return verdict.success
})

const refusedBecause = Effect.fnUntraced(function*(reason: string) {
  const verdict = yield* forDispatch()
  assert.strictEqual(Result.isFailure(verdict) ? verdict.failure.reason : "accepted", reason)
})

const replaced = (
  artifacts: ReturnType<typeof release>,
  path: string,
  change: Partial<(typeof artifacts)[string]>
) => ({
  ...artifacts,
  [path]: { ...artifacts[path]!, ...change }
})

/** A byte of a signed text is another one, and still JSON. */
const tampered = (bytes: Uint8Array) =>
  new TextEncoder().encode(new TextDecoder().decode(bytes).replace("web-1", "web-9"))

describe("a dispatch", () => {
  it.effect("stands on the fleet and the manifest, which agree; the acceptance is durable", () =>
    living(
      new Peer(publishing(release())),
      Effect.gen(function*() {
        const judged = yield* accepted()
        assert.strictEqual(judged.targetClosure, target)
        assert.deepStrictEqual([...(yield* stateNow).trust], [["fleet", 0], ["manifest:stable", 0]])
      })
    ))

  const refusals: ReadonlyArray<readonly [string, string, Script, ((peer: Peer) => void)?]> = [
    [
      "a changed fleet",
      "bad-signature",
      publishing(replaced(release(), fleetPath, { bytes: tampered(release()[fleetPath]!.bytes) }))
    ],
    [
      "a changed manifest",
      "bad-signature",
      publishing(replaced(release(), manifestPath(), { bytes: tampered(release()[manifestPath()]!.bytes) }))
    ],
    ["another key", "bad-signature", publishing(release({ seed: seedOf("stranger") }))],
    [
      "a truncated manifest",
      "artifact-unparsable",
      publishing(replaced(release(), manifestPath(), { bytes: release()[manifestPath()]!.bytes.slice(0, 40) }))
    ],
    [
      "a signature of the wrong length",
      "bad-signature",
      publishing(replaced(release(), fleetPath, { signature: new Uint8Array(10) }))
    ],
    ["a manifest of another fleet", "manifest-other-fleet", publishing(otherRelease())],
    [
      "a manifest of another rollout",
      "manifest-other-rollout",
      (request, nth) =>
        publishing(release({ ref: "00ff" }))({ ...request, path: request.path.replace(ref, "00ff") }, nth)
    ],
    ["a manifest without this host", "manifest-host-missing", publishing(release({ manifest: { hostSet: [] } }))],
    [
      "a fleet without a policy for the channel",
      "policy-missing",
      publishing(release({ fleet: { rolloutPolicies: {} } }))
    ],
    ["a release from tomorrow", "future-dated", publishing(release({ signedAt: "1970-01-02T00:00:00Z" }))],
    ["a status without a body", "artifact-unavailable", idle],
    ["a body beyond the limit", "artifact-too-large", () => ({ error: "tooLarge" })],
    ["silence", "control-plane-unreachable", () => ({ error: "timeout" })],
    ["a trust file that is cut off", "trust-file-invalid", publishing(release()), (peer) => {
      peer.trust.bytes = peer.trust.bytes.slice(0, 20)
    }],
    ["a trust file with a misspelt key", "trust-file-invalid", publishing(release()), (peer) => {
      peer.trust.bytes = new TextEncoder().encode(JSON.stringify({ ...trustJson(), rejectBefor: null }))
    }],
    ["a trust file without an active key", "no-trust-roots", publishing(release()), (peer) => {
      peer.trust.bytes = new TextEncoder().encode(JSON.stringify(trustJson({})))
    }]
  ]
  for (const [title, reason, script, prepare] of refusals) {
    it.effect(`is refused for ${title}, and nothing is accepted`, () => {
      const peer = new Peer(script)
      prepare?.(peer)
      return living(
        peer,
        Effect.gen(function*() {
          yield* refusedBecause(reason)
          assert.strictEqual((yield* stateNow).trust.size, 0)
          assert.strictEqual(peer.cache.size, 0)
        })
      )
    })
  }

  it.effect("is refused once the channel's window is over, to the second", () =>
    living(
      new Peer(publishing(release())),
      Effect.gen(function*() {
        // 180 minutes and one minute of forgiven clock difference.
        yield* TestClock.setTime(181 * 60_000)
        yield* accepted()
        yield* TestClock.setTime(181 * 60_000 + 1)
        yield* refusedBecause("stale")
      })
    ))

  it.effect("the operator's ceiling shortens the window", () =>
    living(
      new Peer(publishing(release())),
      Effect.gen(function*() {
        yield* TestClock.setTime(hour + 61_000)
        yield* refusedBecause("stale")
      }),
      new Rig({ hostname: releaseHost, settings: { manifestFreshnessWindowSecs: 3600 } })
    ))

  it.effect("what was published between two requests is fetched once more", () => {
    const [before, after] = [release({ ref: "00aa" }), release({ signedAt: "1970-01-01T00:00:30Z" })]
    // The first look finds the fleet of before and the signature of after.
    const peer = new Peer((request, nth) =>
      request.path === fleetPath && nth === 0 ? publishing(before)(request, nth) : publishing(after)(request, nth)
    )
    return living(
      peer,
      Effect.gen(function*() {
        yield* accepted()
        assert.lengthOf(peer.at(fleetPath), 2)
        assert.isUndefined(peer.at(fleetPath)[1]!.headers["if-none-match"])
      })
    )
  })

  it.effect("an older release is refused after a newer one, also after a restart, and the refusal costs two looks", () => {
    const rig = new Rig({ hostname: releaseHost })
    const peer = new Peer(publishing(release({ signedAt: "1970-01-01T00:00:50Z" })))
    return Effect.gen(function*() {
      yield* living(peer, accepted(), rig)
      peer.script = publishing(release())
      yield* living(peer, refusedBecause("rolled-back"), rig)
      assert.lengthOf(peer.at(fleetPath), 3)
    })
  })

  it.effect("the trust file is read each time: a rotation needs no restart", () => {
    const peer = new Peer(publishing(release({ seed: seedOf("next") })))
    return living(
      peer,
      Effect.gen(function*() {
        yield* refusedBecause("bad-signature")
        const key = ed25519Key(seedOf("next"))
        peer.trust.bytes = new TextEncoder().encode(
          JSON.stringify(trustJson({ current: slot().current, previous: key }))
        )
        yield* accepted()
      })
    )
  })

  it.effect("is taken from the last good unit when the control plane is away", () => {
    const rig = new Rig({ hostname: releaseHost })
    const peer = new Peer(publishing(release()))
    return Effect.gen(function*() {
      yield* living(peer, accepted(), rig)
      peer.script = () => ({ error: "unreachable" })
      yield* living(peer, accepted(), rig)
    })
  })
})

describe("looking for something new", () => {
  it.effect("costs four answers without a body when nothing is", () => {
    const statuses: Array<number> = []
    const peer = new Peer((request, nth) => {
      const answer = publishing(release())(request, nth)
      statuses.push(answer.status ?? 200)
      return answer
    })
    return living(
      peer,
      Effect.gen(function*() {
        assert(Result.isSuccess(yield* refresh))
        statuses.length = 0
        assert(Result.isSuccess(yield* refresh))
        assert.deepStrictEqual(statuses, [304, 304, 304, 304])
      })
    )
  })

  it.effect("makes the next dispatch need no body", () => {
    const peer = new Peer(publishing(release()))
    return living(
      peer,
      Effect.gen(function*() {
        assert(Result.isSuccess(yield* refresh))
        const before = peer.asked.length
        yield* accepted()
        const asked = peer.asked.slice(before)
        assert.lengthOf(asked, 4)
        for (const { headers } of asked) assert.isDefined(headers["if-none-match"])
      })
    )
  })

  it.effect("names what is wrong", () =>
    living(
      new Peer(publishing(release({ seed: seedOf("stranger") }))),
      Effect.gen(function*() {
        const looked = yield* refresh
        assert.strictEqual(Result.isFailure(looked) ? looked.failure.reason : "accepted", "bad-signature")
      })
    ))

  it.effect("accepts a fleet that has nothing for this host", () =>
    living(
      new Peer(publishing(release())),
      Effect.gen(function*() {
        assert(Result.isSuccess(yield* refresh))
        assert.deepStrictEqual([...(yield* stateNow).trust.keys()], ["fleet"])
      }),
      new Rig({ hostname: "lab-1" })
    ))
})

describe("just before the switch", () => {
  it.effect("the unit of the dispatch still holds, without a request, also after a restart and a newer fleet", () => {
    const rig = new Rig({ hostname: releaseHost })
    const peer = new Peer(publishing(release()))
    return Effect.gen(function*() {
      yield* living(peer, accepted(), rig)
      yield* living(
        peer,
        Effect.gen(function*() {
          peer.script = publishing(release({ ref: "00aa", signedAt: "1970-01-01T00:00:40Z" }))
          assert(Result.isSuccess(yield* refresh))
          const before = peer.asked.length
          assert.isUndefined(yield* recheck)
          assert.strictEqual(peer.asked.length, before)
        }),
        rig
      )
    })
  })

  it.effect("a unit that went stale is refused, unless the release was signed anew", () => {
    const peer = new Peer(publishing(release()))
    return living(
      peer,
      Effect.gen(function*() {
        yield* accepted()
        yield* TestClock.setTime(4 * hour)
        assert.strictEqual((yield* recheck)?.reason, "stale")
        peer.script = publishing(release({ signedAt: "1970-01-01T03:00:00Z" }))
        assert.isUndefined(yield* recheck)
      })
    )
  })

  it.effect("a key that was withdrawn in between stops the switch", () => {
    const peer = new Peer(publishing(release()))
    return living(
      peer,
      Effect.gen(function*() {
        yield* accepted()
        peer.trust.bytes = new TextEncoder().encode(JSON.stringify(trustJson({ current: ed25519Key(seedOf("next")) })))
        assert.strictEqual((yield* recheck)?.reason, "bad-signature")
      })
    )
  })

  it.effect("a trust file that is half written at that moment decides nothing: it is asked again", () => {
    const peer = new Peer(publishing(release()))
    const permit = Effect.flatMap(SwitchPermit, (one) => one.check(rolloutId)).pipe(
      Effect.provide(SwitchPermit.layer, { local: true })
    )
    return living(
      peer,
      Effect.gen(function*() {
        yield* accepted()
        yield* offer(dispatch({ rolloutId, targetClosure: target }))
        const whole = peer.trust.bytes
        peer.trust.bytes = whole.slice(0, 20)
        const verdict = yield* permit
        assert.strictEqual(verdict._tag, "Unknown")
        peer.trust.bytes = whole
        assert.strictEqual((yield* permit)._tag, "Holds")
      })
    )
  })
})
