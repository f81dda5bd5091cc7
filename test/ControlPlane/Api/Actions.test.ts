/** What `POST /v1/operator/actions` takes and what it does not: an action must mean exactly what its operator wrote. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import type { ActionAnswer } from "../../../src/ControlPlane/Input.ts"
import { agent, apiRig, operator, postJson, stableId } from "../../support/apiRig.ts"
import { utf8 } from "../../support/tls.ts"

const now = 1_778_893_200_000
const path = "/v1/operator/actions"
const until = "2026-05-17T00:00:00Z"
const hold = { action: "HoldHost", host: "web-1", reason: "spare disk", until }
const pause = { action: "PauseRollout", rolloutId: stableId, reason: "spare disk", until }

const textOf = (body: Uint8Array) => new TextDecoder().decode(body)

/** Asks as an operator; what was offered, and how it was answered. */
const ask = Effect.fnUntraced(function*(body: unknown, answer?: ActionAnswer | { readonly _tag: "Busy" }) {
  yield* TestClock.setTime(now)
  const rig = yield* apiRig()
  if (answer !== undefined) rig.actionAnswer = Effect.succeed(answer)
  const response = yield* rig.call(postJson(path, body), operator)
  return { ...response, text: textOf(response.body), offered: rig.offered }
})

describe("POST /v1/operator/actions", () => {
  const good: ReadonlyArray<unknown> = [
    hold,
    pause,
    { action: "ResumeRollout", rolloutId: stableId, reason: "done" },
    { action: "ReleaseHost", host: "web-1", reason: "done" },
    { action: "Freeze", channel: null, reason: "x", until },
    { action: "Freeze", channel: "stable", reason: "x".repeat(500), until: "2026-05-17T02:00:00+02:00" },
    { action: "Unfreeze", channel: null, reason: "done" },
    { action: "ClearRollout", rolloutId: stableId, reason: "done" },
    { action: "ClearQuarantine", of: { rolloutId: stableId }, reason: "done" },
    { action: "ClearQuarantine", of: { closure: "c-web" }, reason: "\u{1f600} done" },
    `{"action":"HoldHost","host":"web-1","reason":"${"\\u20ac".repeat(500)}","until":"${until}"}`
  ]
  for (const body of good) {
    it.effect(`takes ${JSON.stringify(body).slice(0, 70)}`, () =>
      Effect.gen(function*() {
        const { offered, status } = yield* ask(body)
        assert.strictEqual(status, 409, "the rig's answer")
        assert.lengthOf(offered, 1)
        assert.deepInclude(offered[0], { _tag: "ActionAsked", actor: "operator-ada" })
      }))
  }

  const bad: ReadonlyArray<readonly [string, unknown, number]> = [
    ["no JSON", "{", 400],
    ["truncated", JSON.stringify(hold).slice(0, -2), 400],
    ["a key twice", `{"action":"ReleaseHost","host":"a","host":"b","reason":"x"}`, 400],
    ["nothing", "", 400],
    ["null", null, 422],
    ["a list", [hold], 422],
    ["an action that is none", { ...hold, action: "HoldEverything" }, 422],
    ["an action in another case", { ...hold, action: "holdHost" }, 422],
    ["a field that is none", { ...hold, actor: "somebody-else" }, 422],
    ["a misspelt channel, which would freeze all", { action: "Freeze", chanel: "edge", reason: "x", until }, 422],
    ["no channel, which might mean all", { action: "Freeze", reason: "x", until }, 422],
    ["a channel that is none", { action: "Freeze", channel: "Stable/../x", reason: "x", until }, 422],
    ["a host that is none", { ...hold, host: "web-1/x" }, 422],
    ["no host", { action: "HoldHost", reason: "x", until }, 422],
    ["a number as host", { ...hold, host: 1 }, 422],
    ["a rollout that is none", { ...pause, rolloutId: "stable" }, 422],
    ["no reason", { action: "HoldHost", host: "web-1", until }, 422],
    ["an empty reason", { ...hold, reason: "" }, 422],
    ["a blank reason", { ...hold, reason: "  " }, 422],
    ["a reason of 501 characters", { ...hold, reason: "x".repeat(501) }, 422],
    ["a reason of two lines", { ...hold, reason: "a\nb" }, 422],
    ["a reason that steers a terminal", { ...hold, reason: "a\u001b[2Jb" }, 422],
    ["no end", { action: "HoldHost", host: "web-1", reason: "x" }, 422],
    ["an end that is no time", { ...hold, until: "tomorrow" }, 422],
    ["an end as a number", { ...hold, until: now + 1000 }, 422],
    ["an end of something that has none", { action: "ReleaseHost", host: "web-1", reason: "x", until }, 422],
    ["a quarantine of nothing", { action: "ClearQuarantine", of: {}, reason: "x" }, 422],
    ["a quarantine of an empty closure", { action: "ClearQuarantine", of: { closure: "" }, reason: "x" }, 422],
    ["a quarantine of two", { action: "ClearQuarantine", of: { closure: "c", rolloutId: stableId }, reason: "x" }, 422],
    ["one that is too large", { ...hold, reason: "x".repeat(5_000) }, 413]
  ]
  for (const [what, body, status] of bad) {
    it.effect(`refuses ${what}: ${status}, and nothing is offered`, () =>
      Effect.gen(function*() {
        const found = yield* ask(body)
        assert.strictEqual(found.status, status, found.text)
        assert.deepStrictEqual(found.offered, [])
      }))
  }

  it.effect("refuses a body that is not announced as JSON", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(now)
      const rig = yield* apiRig()
      const request = { method: "POST", path, headers: {}, body: utf8(JSON.stringify(hold)) } as const
      assert.strictEqual((yield* rig.call(request, operator)).status, 415)
      assert.deepStrictEqual(rig.offered, [])
    }))

  it.effect("what the reducer does not do is a sentence with its reason", () =>
    Effect.gen(function*() {
      const statuses = [["unknown", 404], ["not-now", 409], ["impossible", 422]] as const
      for (const [because, status] of statuses) {
        const found = yield* ask(hold, { _tag: "NotTaken", because, reason: "host-unknown", detail: "no host web-1" })
        assert.strictEqual(found.status, status)
        assert.deepStrictEqual(JSON.parse(found.text), { error: "no host web-1", reason: "host-unknown" })
      }
      const busy = yield* ask(hold, { _tag: "Busy" })
      assert.deepStrictEqual([busy.status, busy.headers["retry-after"]], [503, "2"])
    }))

  it.effect("what was done is answered with times as text", () =>
    Effect.gen(function*() {
      const taken = {
        action: { action: "HoldHost", host: "web-1", reason: "spare disk", until: now + 1000 },
        actor: "operator-ada",
        at: now,
        goOn: ["web-1"],
        restarted: [],
        needNewRef: [],
        lifted: [],
        halted: []
      } as const
      const found = yield* ask(hold, { _tag: "Taken", taken })
      assert.strictEqual(found.status, 200)
      assert.deepInclude(JSON.parse(found.text), {
        action: { action: "HoldHost", host: "web-1", reason: "spare disk", until: "2026-05-16T01:00:01Z" },
        actor: "operator-ada",
        at: "2026-05-16T01:00:00Z",
        goOn: ["web-1"]
      })
    }))

  it.effect("a host may not even ask for its own release", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(now)
      const rig = yield* apiRig()
      const body = { action: "ReleaseHost", host: "web-1", reason: "let me go" }
      assert.strictEqual((yield* rig.call(postJson(path, body), agent("web-1"))).status, 403)
      assert.deepStrictEqual(rig.offered, [])
    }))
})
