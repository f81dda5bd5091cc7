import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { disagreements } from "../../src/ControlPlane/Disagreements.ts"
import { foldLog } from "../../src/ControlPlane/Fold.ts"
import { Touched } from "../../src/ControlPlane/fold/Touched.ts"
import { chainsLimit, isRevoked } from "../../src/ControlPlane/Identities.ts"
import * as Views from "../../src/ControlPlane/Views.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import type { Issued } from "../../src/Schema/ControlPlaneJournal.ts"
import { openJournal, Plane, start } from "../support/controlPlane.ts"
import { nonceOf } from "../support/identities.ts"
import { day, h1, h2, hour, noncesOf, revocationsOf, unitWithKeys } from "../support/issuanceRig.ts"

const revoke = (plane: Plane, notBefore: Readonly<Record<string, number>>, signedAt = start) => {
  plane.offer({ _tag: "RevocationsVerified", list: revocationsOf(notBefore, signedAt) })
}

function issued(host: string, notBefore: number, by: Issued["by"]): Issued {
  const commonName = `agent-${host}.fleet.test`
  return { host, commonName, fingerprint: "f", serial: "01", notBefore, notAfter: notBefore + 30 * day, by }
}
const enroll = (plane: Plane, host: string, at: number) =>
  plane.offer({ _tag: "CertificateIssued", issued: issued(host, at, { request: "enroll", nonce: `${host} ${at}` }) })
const renew = (plane: Plane, host: string, from: number, at: number) =>
  plane.offer({ _tag: "CertificateIssued", issued: issued(host, at, { request: "renew", notBefore: from }) })

const isVoid = ({ state }: Plane, host: string, issuedAt: number) => isRevoked(state.identities, host, issuedAt)

describe("a list of revocations", () => {
  it("makes void what was issued earlier, of the hosts that are on it, and nothing of that very moment", () => {
    const plane = new Plane()
    assert.isFalse(isVoid(plane, "h1", start), "no list, nobody")
    revoke(plane, { h1: start })
    assert.deepStrictEqual(
      [start - 1, start, start + 1].map((at) => isVoid(plane, "h1", at)),
      [true, false, false]
    )
    assert.isFalse(isVoid(plane, "h2", 0))
  })

  it("replaces the one before as a whole: whoever is not on it any more is believed again", () => {
    const plane = new Plane()
    revoke(plane, { h1: start, h2: start })
    revoke(plane, { h2: start + hour, h3: start }, start + 1)
    assert.deepStrictEqual(["h1", "h2", "h3"].map((host) => isVoid(plane, host, start - 1)), [false, true, true])
    assert.isTrue(isVoid(plane, "h2", start + 1))
    revoke(plane, {}, start + 2)
    assert.deepStrictEqual(["h1", "h2", "h3"].map((host) => isVoid(plane, host, 0)), [false, false, false])
  })

  it("of two entries for a host the stricter counts", () => {
    const plane = new Plane()
    const list = revocationsOf({ h1: start })
    const [entry] = list.value.revocations
    if (entry === undefined) return assert.fail("no entry")
    const revocations = [{ ...entry, notBefore: start + hour }, entry]
    plane.offer({ _tag: "RevocationsVerified", list: { ...list, value: { ...list.value, revocations } } })
    assert.isTrue(isVoid(plane, "h1", start + hour - 1))
  })

  it("is written down once, however often it is offered", () => {
    const plane = new Plane()
    revoke(plane, { h1: start })
    const rows = plane.log.length
    revoke(plane, { h1: start })
    assert.strictEqual(plane.log.length, rows)
  })

  it("ends the polls of the hosts that it revokes, at once, and nobody else's", () => {
    const plane = new Plane()
    const [voided, newer, other] = [
      plane.park("h1", undefined, start - 1),
      plane.park("h2", undefined, start),
      plane.park("h3", undefined, 0)
    ]
    revoke(plane, { h1: start, h2: start })
    assert.deepStrictEqual(plane.answerTo(voided), { _tag: "Revoked" })
    assert.deepStrictEqual([plane.answerTo(newer), plane.answerTo(other)], [undefined, undefined])
  })

  it("ends a poll that was let in just before it, and spares that of the host's new certificate", () => {
    const plane = new Plane()
    const good = plane.park("h1", undefined, start + 1)
    revoke(plane, { h1: start })
    const late = plane.park("h1", undefined, start - 1)
    assert.deepStrictEqual(plane.answerTo(late), { _tag: "Revoked" })
    assert.isUndefined(plane.answerTo(good))
  })
})

describe("certificates that were renewed", () => {
  it("are void with the one they came from, also when they were renewed after the time on the list", () => {
    const plane = new Plane()
    enroll(plane, "h1", start)
    renew(plane, "h1", start, start + day)
    renew(plane, "h1", start + day, start + 2 * day)
    plane.now = start + 3 * day
    revoke(plane, { h1: start + hour })
    assert.deepStrictEqual(
      [start, start + day, start + 2 * day].map((at) => isVoid(plane, "h1", at)),
      [true, true, true]
    )
    assert.isFalse(isVoid(plane, "h1", start + 3 * day), "who enrolls again is believed again")
  })

  it("of a certificate from elsewhere are void with it", () => {
    const plane = new Plane()
    renew(plane, "h1", start, start + day)
    revoke(plane, { h1: start + hour })
    assert.isTrue(isVoid(plane, "h1", start + day))
    assert.isFalse(isVoid(plane, "h1", start + day + 1))
  })

  it("of a later enrollment are not", () => {
    const plane = new Plane()
    enroll(plane, "h1", start)
    enroll(plane, "h1", start + day)
    renew(plane, "h1", start + day, start + 2 * day)
    revoke(plane, { h1: start + hour })
    assert.deepStrictEqual(
      [start, start + day, start + 2 * day].map((at) => isVoid(plane, "h1", at)),
      [true, false, false]
    )
  })

  it("cannot be renewed once they are void, by a list that came in between", () => {
    const plane = new Plane()
    enroll(plane, "h1", start)
    revoke(plane, { h1: start + hour })
    const rows = plane.log.length
    const answer = renew(plane, "h1", start, start + day)
    assert.strictEqual(answer._tag === "Denied" ? answer.reason : answer._tag, "certificate-revoked")
    assert.strictEqual(plane.log.length, rows)
  })

  it("stay bounded: of many enrollments the oldest count as one, and none of it is overlooked", () => {
    const plane = new Plane()
    for (let n = 0; n < 3 * chainsLimit; n++) {
      enroll(plane, "h1", start + n * day)
      renew(plane, "h1", start + n * day, start + n * day + hour)
    }
    revoke(plane, { h1: start + 2 * day + 1 })
    const at = (n: number) => start + n * day + hour
    assert.deepStrictEqual([at(0), at(2)].map((issuedAt) => isVoid(plane, "h1", issuedAt)), [true, true])
    assert.isFalse(isVoid(plane, "h1", at(3 * chainsLimit - 1)))
  })
})

describe("what operators see of a revocation", () => {
  const shown = ({ now, state }: Plane, host: string) =>
    Views.hosts(state, now, host).hosts.find(({ hostname }) => hostname === host)?.revoked
  const known = () => {
    const plane = new Plane()
    plane.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({ h1: h1.openSsh }) })
    return plane
  }
  const entry = (notBefore: number) => ({ notBefore, reason: "stolen", revokedBy: "ada" })

  it("who is kept out, from when on certificates count, why, and by whom", () => {
    const plane = known()
    plane.heartbeat("h1", {}, undefined, start)
    assert.isNull(shown(plane, "h1"))
    revoke(plane, { h1: start + hour, h2: start })
    assert.deepStrictEqual([shown(plane, "h1"), shown(plane, "h2")], [entry(start + hour), entry(start)])
    revoke(plane, { h2: start }, start + 1)
    assert.deepStrictEqual([shown(plane, "h1"), shown(plane, "h2")], [null, entry(start)])
  })

  it("also of a host that was never heard, or by an older version", () => {
    const plane = known()
    revoke(plane, { h1: start })
    assert.deepStrictEqual(shown(plane, "h1"), entry(start))
  })

  it("nothing any more once the host enrolled anew, or is heard with a newer certificate from elsewhere", () => {
    const enrolled = known()
    enroll(enrolled, "h1", start)
    revoke(enrolled, { h1: start + hour })
    assert.deepStrictEqual(shown(enrolled, "h1"), entry(start + hour))
    enroll(enrolled, "h1", start + hour)
    assert.isNull(shown(enrolled, "h1"))

    const heard = known()
    revoke(heard, { h1: start + hour })
    heard.heartbeat("h1", {}, undefined, start + hour)
    assert.isNull(shown(heard, "h1"))
  })

  it("still, when what the host was heard with was renewed from a void one", () => {
    const plane = known()
    enroll(plane, "h1", start)
    renew(plane, "h1", start, start + day)
    plane.heartbeat("h1", {}, undefined, start + day)
    revoke(plane, { h1: start + hour })
    assert.deepStrictEqual(shown(plane, "h1"), entry(start + hour))
  })

  it.effect("the same after a restart", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("journal")
      const plane = new Plane(yield* openJournal(disk))
      plane.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({ h1: h1.openSsh, h2: h2.openSsh }) })
      plane.heartbeat("h1", {}, undefined, start + hour)
      plane.heartbeat("h2", {}, undefined, start)
      revoke(plane, { h1: start + hour, h2: start + hour })
      const { hosts } = Views.hosts((yield* openJournal(disk)).initial, plane.now)
      const revoked = hosts.flatMap(({ hostname, revoked: why }) => why === null ? [] : [[hostname, why]])
      assert.deepStrictEqual(revoked, [["h2", entry(start + hour)]])
    }))
})

describe("what is known of identities", () => {
  it.effect("survives a restart, and is what the event log means", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("journal")
      const plane = new Plane(yield* openJournal(disk))
      plane.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({ h1: h1.openSsh }) })
      revoke(plane, { h2: start })
      plane.offer({
        _tag: "NoncesVerified",
        list: noncesOf([{ nonce: nonceOf("a"), hostname: "h1", expiresAt: start + hour }])
      })
      const claims = {
        hostname: "h1",
        expectedPubkeyFingerprint: h1.fingerprint,
        issuedAt: start,
        expiresAt: start + hour,
        nonce: nonceOf("a")
      }
      assert.deepStrictEqual(plane.offer({ _tag: "EnrollmentAsked", claims, key: h1.raw }), { _tag: "Granted" })
      enroll(plane, "h1", start)
      renew(plane, "h1", start, start + day)
      const journal = yield* openJournal(disk)
      assert.deepStrictEqual(journal.initial.identities, plane.state.identities)
      const folded = foldLog(journal.initial.databaseId, yield* journal.rows, new Touched())
      assert.deepStrictEqual(disagreements(folded, journal.initial), [])
    }))
})
