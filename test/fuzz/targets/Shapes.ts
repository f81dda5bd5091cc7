/**
 * Everything that is JSON with a schema: read as the programs read it, then written and read again. What is taken must be
 * the same value afterwards; what is not taken must be a sentence.
 */
import { assert } from "@effect/vitest"
import { Result, Schema } from "effect"
import { evaluate } from "../../../src/Layers/Host/EvidenceProbe.ts"
import { resolveDeclaration } from "../../../src/Operator/Declaration.ts"
import { Bookkeeping, Entry } from "../../../src/Schema/AgentJournal.ts"
import * as Artifacts from "../../../src/Schema/Artifacts.ts"
import * as ControlPlaneJournal from "../../../src/Schema/ControlPlaneJournal.ts"
import { strictDecoder } from "../../../src/Schema/Decode.ts"
import { Evidence, EvidenceControl } from "../../../src/Schema/Evidence.ts"
import * as Declared from "../../../src/Schema/FleetDeclaration.ts"
import { HealthCheck, HealthChecks } from "../../../src/Schema/HealthChecks.ts"
import { HostRecord, RolloutRecord } from "../../../src/Schema/HostRecord.ts"
import * as Views from "../../../src/Schema/OperatorViews.ts"
import { EpochMillis, Hostname, WireId } from "../../../src/Schema/Primitives.ts"
import { KeySlot, TrustMemory, TrustRoots } from "../../../src/Schema/Trust.ts"
import * as Wire from "../../../src/Schema/Wire.ts"
import { parseStrict } from "../../../src/Trust/CanonicalJson.ts"
import { projectManifest } from "../../../src/Trust/FleetAndManifests.ts"
import { dispatched } from "../../support/agentReleases.ts"
import { commit, fleetJson, manifestJson, meta, trustJson } from "../../support/artifacts.ts"
import { jsonOf, mutated } from "../Samples.ts"
import { checked, type Target } from "../Target.ts"

interface Shape<S extends Schema.Codec<unknown, unknown>> {
  readonly name: string
  readonly schema: S
  /** Inputs written by hand. */
  readonly known: ReadonlyArray<unknown>
  /** What values are generated from, where the schema's own checks would discard nearly all. */
  readonly generated?: Schema.Codec<unknown, unknown>
  /** As of every target; 0.25 when absent. */
  readonly weight?: number
  /** Unknown fields are refused (D19). */
  readonly strict?: true
  /** Holds values that are passed on as they are, of which only the text matters. */
  readonly opaque?: true
  /** What else must hold for a value that was taken. */
  readonly also?: (value: S["Type"]) => void
}

/** One schema's target. */
function shape<S extends Schema.Codec<unknown, unknown>>(given: Shape<S>): Target {
  const { also, generated = given.schema, known, name, opaque, schema, strict, weight = 0.25 } = given
  const read = strict === undefined ? Schema.decodeUnknownResult(schema) : undefined
  const readStrictly = strictDecoder(schema)
  const write = Schema.encodeUnknownSync(schema)
  const decode = (json: unknown): { readonly value: S["Type"] } | undefined => {
    if (read !== undefined) {
      return Result.match(read(json), { onFailure: () => undefined, onSuccess: (value) => ({ value }) })
    }
    const decoded = readStrictly(json)
    return decoded.ok ? decoded : undefined
  }
  return {
    name,
    weight,
    source: mutated(jsonOf(generated, known)),
    check: checked((input) => {
      const parsed = parseStrict(input)
      if (!parsed.ok) return
      const first = decode(parsed.value)
      if (first === undefined) return
      const second = decode(JSON.parse(JSON.stringify(write(first.value))))
      if (opaque === undefined) assert.deepStrictEqual(second, first, "written and read again")
      assert.strictEqual(JSON.stringify(second && write(second.value)), JSON.stringify(write(first.value)))
      also?.(first.value)
    })
  }
}

const at = "2026-06-01T08:00:00Z"
const event = {
  hostname: "web-1",
  rolloutId: `stable@${commit}`,
  journalId: "j1",
  event: { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: at, deliveryId: "d-1", attempt: 1, seq: 1 }
}
const heartbeat = {
  hostname: "web-1",
  at,
  boot: true,
  journal_id: "j1",
  last_event_seq_by_rollout: { "stable@01": 3 },
  digests: [{ rollout_id: "stable@01", state: "Soaking", target_closure: "x", attempt: 1, last_event_seq: 3 }],
  rejections: [{ rollout_id: "stable@01", reason: "stale", detail: "", at }]
}

const wire: ReadonlyArray<Target> = [
  shape({ name: "wire-event", schema: Wire.AgentEventEnvelope, known: [event] }),
  shape({ name: "wire-heartbeat", schema: Wire.HeartbeatRequest, known: [heartbeat] }),
  shape({
    name: "wire-heartbeat-answer",
    schema: Wire.HeartbeatResponse,
    known: [{ received_at: at, replay_from: { "stable@01": 1 }, acked_through: { "stable@01": 2 } }]
  }),
  shape({ name: "wire-dispatch", schema: Wire.DispatchResponse, known: [dispatched()] }),
  shape({
    name: "wire-verdict",
    schema: Wire.EventVerdict,
    known: [{ verdict: "gap", reason: "seq-gap", replay_from: 3 }]
  })
]

const mapsOfFleet = {
  hosts: Schema.Record(Hostname, Artifacts.FleetHost),
  channels: Schema.Record(Artifacts.ChannelName, Artifacts.Channel),
  rolloutPolicies: Schema.Record(WireId, Artifacts.RolloutPolicy),
  waves: Schema.Record(Artifacts.ChannelName, Schema.Array(Artifacts.Wave))
}

const artifacts: ReadonlyArray<Target> = [
  shape({
    name: "artifact-fleet",
    schema: Artifacts.FleetResolved,
    generated: Schema.Struct({ ...Artifacts.FleetResolved.fields, ...mapsOfFleet }),
    known: [fleetJson()],
    weight: 1.5,
    also: (fleet) => {
      for (const channel of Object.keys(fleet.channels)) projectManifest(fleet, "0".repeat(64), channel)
    }
  }),
  shape({ name: "artifact-manifest", schema: Artifacts.RolloutManifest, known: [manifestJson()] }),
  shape({
    name: "artifact-revocations",
    schema: Artifacts.Revocations,
    known: [{ schemaVersion: 1, revocations: [{ hostname: "web-1", notBefore: at, reason: null }], meta: meta() }]
  }),
  shape({
    name: "artifact-nonces",
    schema: Artifacts.BootstrapNonces,
    known: [{ schemaVersion: 1, bootstrapNonces: [{ nonce: "n", hostname: "web-1", expiresAt: at }], meta: meta() }]
  })
]

const declaration = {
  ref: commit,
  closures: { base: `${"1".repeat(40)}-base` },
  channels: { stable: { rolloutPolicy: "careful", freshnessWindow: 180 } },
  rolloutPolicies: {
    careful: { waves: [{ selector: { tags: ["canary"] }, soakSeconds: 30 }, { selector: { all: true } }] }
  },
  hosts: {
    "web-1": { channel: "stable", platform: "x86_64-linux", tags: ["canary"], closure: "base" },
    "web-2": { channel: "stable", platform: "x86_64-linux", closure: `${"2".repeat(40)}-web` }
  },
  edges: [{ gated: "web-2", gates: "web-1" }],
  disruptionBudgets: [{ selector: { all: true }, maxInFlight: 1 }]
}

const evidenceCheck = {
  kind: "evidence",
  mode: "enforce",
  intervalSeconds: 30,
  runOnce: false,
  onBaselineFailure: "hold",
  evidencePath: "/evidence.json",
  maxAgeSeconds: 86_400
} as const

/** Files that people and configuration tools write. */
const written: ReadonlyArray<Target> = [
  shape({
    name: "trust-roots",
    schema: TrustRoots,
    generated: Schema.Struct({ schemaVersion: Schema.Literal(1), ciReleaseKey: KeySlot, orgRootKey: KeySlot }),
    known: [trustJson(), { ...trustJson(), rootCAPem: "x", issuanceCAPems: ["y"] }],
    strict: true
  }),
  shape({
    name: "trust-memory",
    schema: TrustMemory,
    generated: Schema.Record(WireId, EpochMillis),
    known: [{ fleet: 1, "manifest:stable": 2 }],
    strict: true
  }),
  shape({
    name: "health-checks",
    schema: HealthChecks,
    generated: Schema.Record(WireId, HealthCheck),
    known: [{
      web: { kind: "http", mode: "enforce", url: "http://127.0.0.1:80/health" },
      db: { kind: "tcp", mode: "observe", port: 5432 },
      disk: { kind: "exec", mode: "disabled", command: ["/bin/true", "-x"], runOnce: true },
      units: {
        kind: "systemd",
        mode: "enforce",
        units: ["nginx.service"],
        maxFailedUnits: 0,
        onBaselineFailure: "ignore"
      },
      nis2: { kind: "evidence", mode: "enforce", framework: "nis2", controlOverrides: { "c-1": { mode: "observe" } } },
      named: { kind: "evidence", mode: "observe", controls: { "c-1": { mode: "enforce", reason: "" } } }
    }],
    strict: true
  }),
  shape({
    name: "evidence",
    schema: Evidence,
    generated: Schema.Struct({
      ...Evidence.fields,
      controls: Schema.Array(
        Schema.Struct({
          ...EvidenceControl.fields,
          frameworkArticles: Schema.Record(WireId, Schema.Array(WireId))
        })
      )
    }),
    known: [{
      schemaVersion: 1,
      hostname: "web-1",
      collectedAt: at,
      controls: [{ controlId: "c-1", passed: true, frameworkArticles: { nis2: ["art21.h"] }, details: { any: 1 } }]
    }],
    also: (evidence) => {
      for (const select of [{ framework: "nis2" }, { controls: { "c-1": { mode: "enforce" as const, reason: "" } } }]) {
        assert.include(["pass", "fail"], evaluate({ ...evidenceCheck, ...select }, evidence).status)
      }
    }
  }),
  shape({
    name: "fleet-declaration",
    schema: Declared.FleetDeclaration,
    generated: Schema.Struct({
      ...Declared.FleetDeclaration.fields,
      closures: Schema.Record(WireId, Schema.String.check(Schema.isMaxLength(255))),
      channels: Schema.Record(Artifacts.ChannelName, Declared.DeclaredChannel),
      rolloutPolicies: Schema.Record(WireId, Declared.DeclaredPolicy),
      hosts: Schema.Record(Hostname, Declared.DeclaredHost)
    }),
    known: [declaration],
    weight: 1.5,
    strict: true,
    also: (value) => {
      const resolved = resolveDeclaration(value, value.ref ?? commit)
      if (resolved.ok) Schema.decodeUnknownSync(Artifacts.FleetResolved)(Artifacts.encodeFleetResolved(resolved.fleet))
      else assert.isNotEmpty(resolved.problems)
    }
  })
]

const column = (name: string, schema: Schema.Codec<unknown, unknown>): Target =>
  shape({ name: `journal-${name}`, schema, known: [{}] })

/** JSON columns of both journals. */
const columns: ReadonlyArray<Target> = [
  column("entry", Entry),
  column("bookkeeping", Bookkeeping),
  column("record", HostRecord),
  column("rollout", RolloutRecord),
  column("plan", ControlPlaneJournal.RolloutPlan),
  column("dispatch", ControlPlaneJournal.DispatchRow),
  column("seen", ControlPlaneJournal.HostSeen),
  column("overlay", ControlPlaneJournal.Overlay),
  column("recovery", ControlPlaneJournal.ChannelRecovery),
  column("outcome", ControlPlaneJournal.EventOutcome),
  column("action", ControlPlaneJournal.PlanAction),
  column("happening", ControlPlaneJournal.RolloutHappening),
  column("effect", ControlPlaneJournal.Effect),
  column("gate", ControlPlaneJournal.GateDecision),
  column("verify", ControlPlaneJournal.VerifyOutcome)
]

/** What the operator's command reads. */
const views: ReadonlyArray<Target> = [
  shape({ name: "view-hosts", schema: Views.HostsResponse, known: [{ hosts: [] }] }),
  shape({
    name: "view-why",
    schema: Views.Explanation,
    known: [{
      hostname: "web-1",
      at: "2026-06-01T08:00:00Z",
      standing: "held",
      reason: "wave-promotion",
      because: "wave 1 of 2 is not complete: web-0 is soaking",
      since: null,
      clearedBy: "convergence of every host of wave 1",
      earliestAt: "2026-06-01T08:05:00Z",
      evidence: [{ fact: "web-0: it soaks", at: null }],
      channel: "stable",
      runs: null,
      lastHeardAt: null,
      rollout: null
    }]
  }),
  shape({ name: "view-rollouts", schema: Views.RolloutList, known: [{ rollouts: [] }] }),
  shape({ name: "view-rollout-hosts", schema: Views.RolloutHosts, known: [{ rollout_id: "stable@01", hosts: [] }] }),
  shape({
    name: "view-rollout-events",
    schema: Views.RolloutEvents,
    known: [{ rollout_id: "stable@01", events: [] }],
    opaque: true
  }),
  shape({ name: "view-lifecycle", schema: Views.RolloutLifecycle, known: [{}] }),
  shape({ name: "view-channel", schema: Views.ChannelView, known: [{}] })
]

export const shapes: ReadonlyArray<Target> = [...wire, ...artifacts, ...written, ...columns, ...views]
