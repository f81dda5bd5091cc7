import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { readSnapshot } from "../../src/ControlPlane/Snapshot.ts"
import { hostIn, sorted, type State } from "../../src/ControlPlane/State.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { omit } from "../../src/Rollout/host/Model.ts"
import { snapshotLimitBytes } from "../../src/Schema/Snapshot.ts"
import { apiRig, getRequest, operator } from "../support/apiRig.ts"
import { closureOf, dispatched, idOf, openJournal, Plane, type Release, start } from "../support/controlPlane.ts"
import { published, snapshotText } from "../support/snapshots.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const takenAt = start + 3_600_000

const textOf = (state: State): string => snapshotText(state, takenAt)

const readState = (text: string): State => {
  const read = readSnapshot(text)
  return Result.isSuccess(read) ? read.success.state : assert.fail(read.failure)
}

/** Everything that a plan looks at, in a form that can be compared. */
const planned = (state: State) => ({
  databaseId: state.databaseId,
  limits: state.limits,
  nextDelivery: state.nextDelivery,
  rollouts: sorted(state.rollouts).map(([id, { hosts, plan, record }]) => ({
    id,
    plan,
    record,
    hosts: sorted(hosts).map(([host, { ledger, ...entry }]) => [host, ledger.lastSeq, entry])
  })),
  channels: sorted(state.channels),
  hosts: sorted(state.hosts).map(([host, { rollouts, seen }]) => ({ host, rollouts, seen })),
  queue: sorted(state.queue),
  quarantine: state.quarantine,
  lifted: sorted(state.lifted),
  interventions: sorted(state.interventions),
  revocations: state.identities.revocations?.list,
  artifacts: state.artifacts && {
    fleet: { ...state.artifacts.fleet, signature: undefined },
    manifests: [...state.artifacts.manifests].map(([id, one]) => [id, { ...one, signature: undefined }])
  },
  lastPlanAt: state.lastPlanAt,
  listeningSince: state.listeningSince
})

/** Something of every kind that a state can hold. */
function story(plane: Plane): void {
  plane.offer({ _tag: "ArtifactsVerified", artifacts: published(r1) })
  plane.hear(r1)
  const h1 = dispatched(plane, "h1")
  h1.soaks(plane)
  h1.rollsBack(plane)
  const r2: Release = { ref: "b2", waves: [["h1"], ["h2", "h3"]], signedAt: start + 1000 }
  const edge: Release = { channel: "edge", ref: "b2", waves: [["e1"]], signedAt: start + 1000 }
  plane.offer({ _tag: "ArtifactsVerified", artifacts: published(r2, edge) })
  plane.poll("h1")
  plane.heartbeat("h2", { digests: [], current_closure: closureOf("a1", "h2") })
  plane.act({ action: "HoldHost", host: "h3", reason: "in repair", until: plane.now + 3_600_000 })
  plane.act({ action: "ClearQuarantine", of: { closure: closureOf("a1", "h1") }, reason: "a false alarm" })
  plane.offer({
    _tag: "RevocationsVerified",
    list: {
      value: {
        schemaVersion: 1,
        revocations: [{ hostname: "h9", notBefore: start, reason: "key copied", revokedBy: null }],
        meta: { schemaVersion: 1, signedAt: start, ciCommit: null }
      },
      bytes: new Uint8Array(),
      signature: new Uint8Array(),
      hash: "h",
      signedAt: start
    }
  })
  plane.pass(1000)
}

describe("a snapshot", () => {
  it.effect("means the state that it was taken of", () =>
    Effect.gen(function*() {
      const plane = new Plane(yield* openJournal(new MemoryDisk("journal")))
      story(plane)
      for (const kind of ["rollouts", "channels", "queue", "lifted", "interventions", "hosts", "artifacts"] as const) {
        assert.isNotEmpty(planned(plane.state)[kind], kind)
      }
      assert.deepStrictEqual(planned(readState(textOf(plane.state))), planned(plane.state))
    }))

  it.effect("is what a restart would find on the disk", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("journal")
      const plane = new Plane(yield* openJournal(disk))
      story(plane)
      const { initial } = yield* openJournal(disk)
      const withoutMemory = (state: State): State => omit(state, ["artifacts", "lastPlanAt", "listeningSince"])
      const lease = ({ queue, ...rest }: ReturnType<typeof planned>) => ({
        ...rest,
        queue: queue.map(([host, row]) => [host, { ...row, lease: row.lease && { ...row.lease, waiterId: 0 } }])
      })
      assert.deepStrictEqual(
        lease(planned(withoutMemory(readState(textOf(plane.state))))),
        lease(planned(withoutMemory(initial)))
      )
    }))

  it("of a state that knows nothing is one, too", () => {
    assert.deepStrictEqual(planned(readState(textOf(new Plane().state))), planned(new Plane().state))
  })

  it("leaves out what a host took long ago", () => {
    const plane = new Plane()
    const releases = ["a1", "b2", "c3", "d4", "e5"].map((ref, index): Release => ({
      ref,
      waves: [["h1"]],
      signedAt: start + index
    }))
    for (const release of releases) {
      plane.publish(release)
      plane.heartbeat("h1")
      dispatched(plane, "h1").soaks(plane)
    }
    plane.publish({ ref: "f6", waves: [["h1"]], signedAt: start + 9 })
    const state = readState(textOf({ ...plane.state, artifacts: published(r1) }))
    assert.deepStrictEqual(sorted(state.rollouts).map(([id]) => id), [
      "stable@c3",
      "stable@d4",
      "stable@e5",
      "stable@f6"
    ])
    assert.strictEqual(hostIn(state, idOf(releases[4]!), "h1")?.record.state, "Soaking")
  })

  it("holds no secret: no nonce, and nothing about who holds which certificate", () => {
    const plane = new Plane()
    story(plane)
    const { identities } = plane.state
    const nonces = { signedAt: start, hash: "x", nonces: [{ nonce: "top-secret", hostname: "h1", expiresAt: start }] }
    const text = textOf({
      ...plane.state,
      identities: { ...identities, nonces: { list: nonces, entries: identities.used } as never }
    })
    assert.notInclude(text, "top-secret")
    assert.isTrue(readState(text).identities.nonces === undefined)
  })
})

describe("text that is no snapshot", () => {
  const plane = new Plane()
  story(plane)
  const lines = textOf(plane.state).trimEnd().split("\n")
  const of = (kind: string) => lines.find((line) => line.startsWith(`{"line":"${kind}"`)) ?? assert.fail(kind)
  const withEnd = (body: ReadonlyArray<string>) => [...body, `{"line":"end","lines":${body.length}}`]
  const between = (...more: ReadonlyArray<string>) => withEnd([...lines.slice(0, -1), ...more])
  const cases: ReadonlyArray<readonly [name: string, lines: ReadonlyArray<string>, problem: string]> = [
    ["empty", [], "line 1 is no header"],
    ["only an end", withEnd([]), "line 1 is no header"],
    ["without its end", lines.slice(0, -1), "it was cut off"],
    ["with a line cut off", [...lines.slice(0, -1), lines.at(-1)!.slice(0, 8)], `line ${lines.length}: `],
    [
      "with a line missing",
      [...lines.slice(0, 3), ...lines.slice(4)],
      `its end speaks of ${lines.length - 1} lines, not`
    ],
    ["of another format", [of("header").replace("\"format\":1", "\"format\":2"), ...lines.slice(1)], "line 1: "],
    ["that is no JSON", between("nonsense"), `line ${lines.length}: `],
    ["with an empty line", between(""), `line ${lines.length}: `],
    ["with a kind of line that nobody knows", between("{\"line\":\"more\"}"), `line ${lines.length}: `],
    ["with a second header", between(of("header")), "a second header"],
    ["with an end in the middle", between(lines.at(-1)!), "a second end"],
    ["with a rollout twice", between(of("rollout")), "a second line of its kind about edge@b2"],
    ["with a record twice", between(of("record")), "a second line of its kind about e1"],
    ["with a host seen twice", between(of("seen")), "a second line of its kind about h1"],
    ["with an action twice", between(of("intervention")), "a second line of its kind about host h3"],
    ["with a fleet twice", between(of("artifact")), "a second fleet"],
    [
      "with a record of no rollout",
      between(of("record").replaceAll("edge@b2", "edge@ff")),
      "has no line before it"
    ],
    [
      "with a number as text",
      between(of("seen").replace(/"receivedAt":(\d+)/, "\"receivedAt\":\"$1\"")),
      `line ${lines.length}`
    ],
    [
      "with a fleet that is none",
      withEnd([
        lines[0]!,
        "{\"line\":\"artifact\",\"name\":\"fleet.resolved\",\"signedAt\":1,\"hash\":\"\",\"text\":\"{}\"}"
      ]),
      "fleet.resolved is not a fleet.resolved"
    ],
    [
      "with a fleet that is no JSON",
      withEnd([
        lines[0]!,
        "{\"line\":\"artifact\",\"name\":\"fleet.resolved\",\"signedAt\":1,\"hash\":\"\",\"text\":\"{\"}"
      ]),
      "fleet.resolved is not a fleet.resolved"
    ]
  ]
  for (const [name, hostile, problem] of cases) {
    it(`${name} is refused`, () => {
      const read = readSnapshot(hostile.join("\n"))
      assert.isTrue(Result.isFailure(read), "was read")
      assert.include(Result.isFailure(read) ? read.failure : "", problem)
    })
  }

  it("a name that JavaScript keeps for itself is a name", () => {
    const record = of("record").replaceAll("\"hostname\":\"e1\"", "\"hostname\":\"__proto__\"")
    assert.isDefined(hostIn(readState(between(record).join("\n")), "edge@b2", "__proto__"))
  })
})

describe("GET /v1/snapshot", () => {
  it.effect("answers JSON lines that mean the published state", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const plane = new Plane()
      story(plane)
      rig.state = plane.state
      const response = yield* rig.call(getRequest("/v1/snapshot"), operator)
      assert.deepStrictEqual([response.status, response.headers["content-type"]], [200, "application/x-ndjson"])
      const text = Buffer.from(response.body).toString()
      assert.deepStrictEqual(planned(readState(text)), planned(plane.state))
    }))

  it.effect("one that is too large is refused by name", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const artifacts = published(r1)
      const bytes = new Uint8Array(snapshotLimitBytes).fill(0x20)
      rig.state = { ...new Plane().state, artifacts: { ...artifacts, fleet: { ...artifacts.fleet, bytes } } }
      const response = yield* rig.call(getRequest("/v1/snapshot"), operator)
      assert.deepStrictEqual([response.status, response.body.length], [500, 0])
    }))
})
