import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Reason } from "../../../src/Schema/Reasons.ts"
import { agent, postJson } from "../../support/apiRig.ts"
import { start } from "../../support/controlPlane.ts"
import { nonceOf, p256Key } from "../../support/identities.ts"
import { day, h2, hour, issuanceRig, revocationsOf } from "../../support/issuanceRig.ts"

type Rig = Effect.Success<ReturnType<typeof issuanceRig>>

const noKey = { privateKey: p256Key() }

describe("POST /v1/agent/renew", () => {
  it.effect("gives the next certificate, from now on, with the same key", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      yield* rig.enroll()
      yield* rig.pass(15 * day)
      const { certificate, status } = yield* rig.renew({}, { notBefore: start })
      assert.strictEqual(status, 200)
      assert.strictEqual(certificate?.validFromDate.getTime(), start + 15 * day)
      assert.strictEqual(certificate?.validToDate.getTime(), start + 45 * day)
      assert.deepStrictEqual(rig.issued().map(({ by }) => by), [
        { request: "enroll", nonce: nonceOf("a") },
        { request: "renew", notBefore: start }
      ])
    }))

  const refused: ReadonlyArray<
    readonly [because: string, ask: (rig: Rig) => ReturnType<Rig["renew"]>, status: number, reason: Reason]
  > = [
    ["the request names another host", (rig) => rig.renew({ name: "h2" }), 403, "request-other-name"],
    [
      "the request names another host, with that host's key",
      (rig) => rig.renew({ name: "h2", key: h2 }),
      403,
      "request-other-name"
    ],
    ["the key is another host's", (rig) => rig.renew({ key: h2 }), 401, "host-key-differs"],
    ["the key is not ed25519", (rig) => rig.renew({ key: noKey }), 400, "request-key-type"],
    ["the fleet has no such host", (rig) => rig.renew({ host: "h9" }), 401, "host-not-declared"],
    ["the fleet declares no key for the host", (rig) => rig.renew({ host: "h3" }), 401, "host-key-not-declared"]
  ]
  for (const [because, ask, status, reason] of refused) {
    it.effect(`${status} ${reason}: ${because}`, () =>
      Effect.gen(function*() {
        const rig = yield* issuanceRig()
        assert.deepStrictEqual(yield* ask(rig), { status, reason, certificate: undefined })
        assert.deepStrictEqual(rig.issued(), [])
      }))
  }

  it.effect("400 and 422: what is no request", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const status = (body: unknown) =>
        Effect.map(rig.call(postJson("/v1/agent/renew", body), agent("h1")), (response) => response.status)
      assert.strictEqual(yield* status({ csrPem: "x" }), 400)
      assert.strictEqual(yield* status({}), 422)
      assert.strictEqual(yield* status("{"), 400)
    }))

  it.effect("a host that asks without end is kept waiting; others are not", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const answers = yield* Effect.forEach(Array.from({ length: 13 }), () => rig.renew())
      assert.deepStrictEqual(answers.map(({ status }) => status), [...Array.from({ length: 12 }, () => 200), 503])
      assert.strictEqual((yield* rig.renew({ host: "h2" })).status, 200)
    }))

  it.effect("a certificate that was renewed while its host was revoked is not given out", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const issuance = rig.issuance
      const slow: Rig = yield* issuanceRig({
        issuance: issuance === undefined ? undefined : {
          ...issuance,
          issue: (host, key) =>
            Effect.tap(issuance.issue(host, key), () =>
              Effect.sync(() =>
                slow.plane.offer({ _tag: "RevocationsVerified", list: revocationsOf({ h1: start - hour }) })
              ))
        }
      })
      assert.deepStrictEqual(yield* slow.renew({}, { notBefore: start - day }), {
        status: 503,
        reason: "certificate-revoked",
        certificate: undefined
      })
      assert.deepStrictEqual(slow.issued(), [])
    }))
})
