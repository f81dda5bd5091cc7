/** `nixfleet why` at a scripted control plane: what a person sees, and what is refused. */
import { assert, describe, it, layer } from "@effect/vitest"
import { DateTime, Effect, Schema } from "effect"
import { renderExplanation } from "../../src/Operator/WhyText.ts"
import { Explanation } from "../../src/Schema/OperatorViews.ts"
import { Certificates } from "../support/certificates.ts"
import { nixfleet } from "../support/operator.ts"
import { connection, reply } from "../support/operatorConnection.ts"

const at = Date.UTC(2026, 10, 21, 2, 10)
const berlin = DateTime.zoneMakeNamedUnsafe("Europe/Berlin")

const held: Explanation = {
  hostname: "delta",
  at,
  standing: "held",
  reason: "wave-promotion",
  because: "wave 2 of 3 is not complete: bravo is soaking",
  since: at - 250_000,
  clearedBy: "convergence of every host of wave 2",
  earliestAt: at + 14_000,
  evidence: [
    { fact: "bravo: it runs r3 and soaks until 2026-11-21T02:10:14Z", at: at - 16_000 },
    { fact: "its channel is frozen", at: null }
  ],
  channel: "stable",
  runs: "r1",
  lastHeardAt: at - 9_500,
  rollout: {
    rolloutId: "stable@0f3c9a01",
    state: "Active",
    wave: 2,
    waves: 3,
    attempt: 2,
    targetClosure: "r3",
    hostState: "Pending"
  }
}

describe("an explanation for people", () => {
  it("says the answer first, then what it rests on, who ends it, and when by the reader's own clock", () => {
    assert.deepStrictEqual(renderExplanation(held, berlin).split("\n"), [
      "delta is held back: wave 2 of 3 is not complete: bravo is soaking",
      "  evidence    bravo: it runs r3 and soaks until 2026-11-21T02:10:14Z; 2026-11-21 03:09:44 +01:00 (16s ago)",
      "  evidence    its channel is frozen",
      "  cleared by  convergence of every host of wave 2",
      "  earliest    2026-11-21 03:10:14 +01:00 (in 14s)",
      "  since       2026-11-21 03:05:50 +01:00 (4m ago)",
      "  reason      wave-promotion",
      "  rollout     stable@0f3c9a01 (Active), wave 3 of 3, attempt 2; the host is Pending",
      "  target      r3",
      "  runs        r1",
      "  last heard  2026-11-21 03:09:50 +01:00 (9s ago)"
    ])
  })

  it("a host at its target says since when, and nothing that it has not", () => {
    const there: Explanation = {
      ...held,
      standing: "at-target",
      reason: "at-target",
      because: "it has converged on r3",
      clearedBy: null,
      earliestAt: null,
      evidence: [],
      rollout: null,
      runs: null,
      lastHeardAt: null
    }
    const zone = DateTime.zoneMakeNamedUnsafe("UTC")
    assert.deepStrictEqual(renderExplanation(there, zone).split("\n"), [
      "delta is at its target since 2026-11-21 02:05:50 UTC (4m ago): it has converged on r3",
      "  reason      at-target",
      "  runs        unknown",
      "  last heard  never"
    ])
  })

  it("says for each standing what it means", () => {
    const first = (standing: Explanation["standing"]) =>
      renderExplanation({ ...held, standing }, berlin).split("\n")[0]?.split(":")[0]
    assert.deepStrictEqual([first("under-way"), first("stopped"), first("not-rolled-out")], [
      "delta waits",
      "delta has stopped",
      "delta is in no rollout"
    ])
  })

  it("obeys no control character that a host has sent, and keeps its lines", () => {
    const hostile = "\u001b[2J\u0007\nroot is fine\u009b31m"
    const evil: Explanation = {
      ...held,
      because: hostile,
      evidence: [{ fact: hostile, at: null }],
      clearedBy: hostile,
      runs: hostile
    }
    const text = renderExplanation(evil, berlin)
    assert.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
    assert.strictEqual(text.split("\n").length, renderExplanation(held, berlin).split("\n").length - 1)
  })
})

describe("the command", () => {
  const encode = Schema.encodeSync(Explanation)

  layer(Certificates.layer, { excludeTestServices: true })((live) => {
    live.effect(
      "tells people and programs, exit 0, and refuses what is no explanation of this host, exit 1",
      () =>
        Effect.gen(function*() {
          const answers: Readonly<Record<string, ReturnType<typeof reply>>> = {
            "/v1/hosts/delta/why": reply(200, encode(held)),
            "/v1/hosts/echo/why": reply(200, encode(held)),
            "/v1/hosts/foxtrot/why": reply(200, { hostname: "foxtrot" }),
            "/v1/hosts/golf/why": reply(503, { error: "control plane not ready", reason: "awaiting" })
          }
          const { flags } = yield* connection("ada", ({ path }) => answers[path] ?? reply(404, ""))
          const told = yield* nixfleet(["why", "delta", ...flags])
          assert.strictEqual(told.code, 0, told.err)
          assert.match(told.out, /^delta is held back: wave 2 of 3 is not complete: bravo is soaking\n {2}evidence /)
          const json = yield* nixfleet(["why", "delta", "--json", ...flags])
          assert.deepStrictEqual([json.code, JSON.parse(json.out)], [0, encode(held)])
          for (
            const [host, message] of [
              ["echo", "the answer is about another host"],
              ["foxtrot", "not the expected view"],
              ["golf", "not ready (503)"],
              ["hotel", "the control plane knows no host hotel"]
            ] as const
          ) {
            const refused = yield* nixfleet(["why", host, ...flags])
            assert.deepStrictEqual([refused.code, refused.out], [1, ""], host)
            assert.include(refused.err, message)
          }
        })
    )

    live.effect("sends nothing for what is no host name, exit 64", () =>
      Effect.gen(function*() {
        const asked: Array<string> = []
        const { flags } = yield* connection("ada", ({ path }) => {
          asked.push(path)
          return reply(404, "")
        })
        for (const name of ["../hosts", "a/b", "a b", ".", "", "a\u0000", "é", "x".repeat(254)]) {
          const { code, err, out } = yield* nixfleet(["why", name, ...flags])
          assert.deepStrictEqual([code, out], [64, ""], name)
          assert.include(err, "is not a host name")
        }
        assert.strictEqual((yield* nixfleet(["why", ...flags])).code, 64)
        assert.deepStrictEqual(asked, [])
      }))
  })
})
