/**
 * What a control plane plans by, as lines, and back (`Schema/Snapshot.ts`): who has them can run the same decisions on the same
 * state elsewhere. Pure.
 *
 * Left out is who was given a certificate, and of every host's history what no plan looks at: the content of events, and records older than the
 * last three that the host took. To point a channel back to a rollout that is older still looks like a first attempt there.
 */
import { HashMap, Result, Schema } from "effect"
import type { RolloutManifest } from "../Schema/Artifacts.ts"
import type { DispatchRow, Quarantine } from "../Schema/ControlPlaneJournal.ts"
import { type Intervention, subjectOf } from "../Schema/Interventions.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { type SnapshotLine, SnapshotLine as Line } from "../Schema/Snapshot.ts"
import { encodeUtf8, parseStrict } from "../Trust/CanonicalJson.ts"
import { type ArtifactKind, fleetKind, manifestKind } from "../Trust/Verify.ts"
import { quarantineKey } from "./fold/Quarantine.ts"
import { type Identities, noIdentities, revocationsInForce } from "./Identities.ts"
import type { Verified, VerifiedArtifacts } from "./Input.ts"
import { withIndexes } from "./journal/Load.ts"
import {
  at,
  type ChannelEntry,
  emptyState,
  type HostEntry,
  hostIn,
  type HostInRollout,
  type RolloutEntry,
  sorted,
  type State
} from "./State.ts"

/** Of each host: enough to know what it took last, and how long it usually takes. */
const keptTaken = 3

/** In an order that can be read line by line: a rollout before its records. */
export function* snapshotLines(state: State, takenAt: Millis): Generator<SnapshotLine> {
  let lines = 0
  for (const line of contents(state, takenAt)) {
    lines += 1
    yield line
  }
  yield { line: "end", lines }
}

function* contents(state: State, takenAt: Millis): Generator<SnapshotLine> {
  const { artifacts, databaseId, lastPlanAt, limits, listeningSince, nextDelivery } = state
  yield {
    line: "header",
    format: 1,
    takenAt,
    databaseId,
    nextDelivery,
    limits,
    ...(lastPlanAt === undefined ? {} : { lastPlanAt }),
    ...(listeningSince === undefined ? {} : { listeningSince })
  }
  if (artifacts !== undefined) {
    yield artifactLine(fleetName, artifacts.fleet)
    for (const [rolloutId, manifest] of artifacts.manifests) yield artifactLine(rolloutId, manifest)
  }
  yield* rolloutLines(state)
  for (const [channel, entry] of sorted(state.channels)) yield { line: "channel", channel, ...entry }
  for (const [, row] of sorted(state.queue)) yield { line: "dispatch", row }
  for (const quarantine of state.quarantine) yield { line: "quarantine", quarantine }
  for (const [, quarantine] of sorted(state.lifted)) yield { line: "lifted", quarantine }
  for (const [, intervention] of sorted(state.interventions)) yield { line: "intervention", intervention }
  const { revocations } = state.identities
  if (revocations !== undefined) yield { line: "revocations", list: revocations.list }
  for (const [, { seen }] of sorted(state.hosts)) if (seen !== undefined) yield { line: "seen", seen }
}

/** Every other artifact has the id of its rollout. */
const fleetName = "fleet.resolved"

const utf8 = new TextDecoder()

const artifactLine = (name: string, { bytes, hash, signedAt }: Verified<unknown>): SnapshotLine => ({
  line: "artifact",
  name,
  signedAt,
  hash,
  text: utf8.decode(bytes)
})

/** Rollouts with a record that is kept, and those that channels are on. */
function* rolloutLines(state: State): Generator<SnapshotLine> {
  const kept = new Map<string, Array<string>>()
  for (const { current } of HashMap.values(state.channels)) if (current !== undefined) kept.set(current, [])
  for (const [host, { rollouts }] of sorted(state.hosts)) {
    for (const rolloutId of keptOf(state, host, rollouts)) {
      const hosts = kept.get(rolloutId)
      if (hosts === undefined) kept.set(rolloutId, [host])
      else hosts.push(host)
    }
  }
  for (const [rolloutId, hosts] of [...kept].toSorted(([a], [b]) => a < b ? -1 : 1)) {
    const rollout = at(state.rollouts, rolloutId)
    if (rollout === undefined) continue
    yield { line: "rollout", record: rollout.record, plan: rollout.plan }
    for (const host of hosts) {
      const entry = at(rollout.hosts, host)
      if (entry !== undefined) yield recordLine(entry)
    }
  }
}

/** The host's rollouts, newest first, down to the last that counts. */
function keptOf(state: State, host: string, rollouts: ReadonlyArray<string>): ReadonlyArray<string> {
  let taken = 0
  const end = rollouts.findIndex((rolloutId) => {
    if (hostIn(state, rolloutId, host)?.record.state !== "Pending") taken += 1
    return taken === keptTaken
  })
  return end < 0 ? rollouts : rollouts.slice(0, end + 1)
}

const recordLine = ({ leasedAt, ledger, offeredUntil, overlay, record }: HostInRollout): SnapshotLine => ({
  line: "record",
  record,
  lastSeq: ledger.lastSeq,
  ...(leasedAt === undefined ? {} : { leasedAt }),
  ...(offeredUntil === undefined ? {} : { offeredUntil }),
  ...(overlay === undefined ? {} : { overlay })
})

export interface Snapshot {
  /** As a control plane that just started on its journal, with the release in force. */
  readonly state: State
  readonly takenAt: Millis
}

/** The state that the lines of a snapshot mean, or the first thing that is wrong with them. */
export function readSnapshot(text: string): Result.Result<Snapshot, string> {
  const lines: Array<SnapshotLine> = []
  // By hand: a list of a hundred thousand parts would be made only to be read once.
  for (let from = 0; from < text.length;) {
    const newline = text.indexOf("\n", from)
    const end = newline < 0 ? text.length : newline
    const decoded = decodeLine(text.slice(from, end))
    if (Result.isFailure(decoded)) return Result.fail(`line ${lines.length + 1}: ${decoded.failure.message}`)
    lines.push(decoded.success)
    from = end + 1
  }
  return stateOf(lines)
}

const decodeLine = Schema.decodeUnknownResult(Schema.fromJsonString(Line))

function stateOf(lines: ReadonlyArray<SnapshotLine>): Result.Result<Snapshot, string> {
  const [header, last] = [lines[0], lines.at(-1)]
  if (header?.line !== "header") return Result.fail("line 1 is no header")
  if (last?.line !== "end") return Result.fail("it has no end: it was cut off")
  if (last.lines !== lines.length - 1) {
    return Result.fail(`its end speaks of ${last.lines} lines, not ${lines.length - 1}`)
  }
  const { databaseId, lastPlanAt, limits, listeningSince, nextDelivery, takenAt } = header
  const found = new Contents()
  for (const [index, line] of lines.slice(1, -1).entries()) {
    const problem = found.take(line)
    if (problem !== undefined) return Result.fail(`line ${index + 2}: ${problem}`)
  }
  const { fleet, manifests } = found
  const state: State = {
    ...emptyState(databaseId, limits),
    nextDelivery,
    rollouts: HashMap.map(
      HashMap.fromIterable(found.rollouts),
      ({ hosts, plan, record }) => ({ plan, record, hosts: HashMap.fromIterable(hosts) })
    ),
    channels: HashMap.fromIterable(found.channels),
    hosts: HashMap.fromIterable(found.hosts),
    queue: HashMap.fromIterable(found.queue),
    quarantine: found.quarantine,
    lifted: HashMap.fromIterable(found.lifted),
    identities: { ...noIdentities, ...(found.revocations === undefined ? {} : { revocations: found.revocations }) },
    interventions: HashMap.fromIterable(found.interventions),
    ...(fleet === undefined ? {} : { artifacts: { fleet, manifests } }),
    ...(lastPlanAt === undefined ? {} : { lastPlanAt }),
    ...(listeningSince === undefined ? {} : { listeningSince })
  }
  return Result.succeed({ state: withIndexes(state), takenAt })
}

/** What the lines between header and end say, by what they speak of. */
class Contents {
  fleet: VerifiedArtifacts["fleet"] | undefined
  readonly manifests = new Map<string, Verified<RolloutManifest>>()
  readonly rollouts = new Map<string, Omit<RolloutEntry, "hosts"> & { readonly hosts: Map<string, HostInRollout> }>()
  readonly channels = new Map<string, ChannelEntry>()
  readonly hosts = new Map<string, HostEntry>()
  readonly queue = new Map<string, DispatchRow>()
  readonly quarantine: Array<Quarantine> = []
  readonly lifted = new Map<string, Quarantine>()
  revocations: Identities["revocations"]
  readonly interventions = new Map<string, Intervention>()

  /** What is wrong with the line, if anything is. */
  take(line: SnapshotLine): string | undefined {
    switch (line.line) {
      case "header":
      case "end":
        return `a second ${line.line}`
      case "artifact":
        return this.#takeArtifact(line)
      case "rollout":
        return once(this.rollouts, line.record.rolloutId, { record: line.record, plan: line.plan, hosts: new Map() })
      case "record": {
        const { lastSeq, line: _, record, ...entry } = line
        const rollout = this.rollouts.get(record.rolloutId)
        return rollout === undefined
          ? `the rollout ${record.rolloutId} has no line before it`
          : once(rollout.hosts, record.hostname, { record, ledger: { lastSeq, seen: [] }, ...entry })
      }
      case "channel": {
        const { channel, line: _, ...entry } = line
        return once(this.channels, channel, entry)
      }
      case "dispatch":
        return once(this.queue, line.row.host, line.row)
      case "quarantine":
        this.quarantine.push(line.quarantine)
        return undefined
      case "lifted":
        return once(this.lifted, quarantineKey(line.quarantine), line.quarantine)
      case "intervention":
        return once(this.interventions, subjectOf(line.intervention.action), line.intervention)
      case "revocations":
        if (this.revocations !== undefined) return "a second list of revocations"
        this.revocations = revocationsInForce(line.list)
        return undefined
      case "seen":
        return once(this.hosts, line.seen.host, { rollouts: [], seen: line.seen, seenStoredAt: line.seen.receivedAt })
    }
  }

  #takeArtifact(line: Extract<SnapshotLine, { line: "artifact" }>): string | undefined {
    if (line.name === fleetName) {
      if (this.fleet !== undefined) return "a second fleet"
      const fleet = artifactOf(fleetKind, line)
      if (Result.isFailure(fleet)) return fleet.failure
      this.fleet = fleet.success
      return undefined
    }
    const manifest = artifactOf(manifestKind, line)
    return Result.isFailure(manifest) ? manifest.failure : once(this.manifests, line.name, manifest.success)
  }
}

/** Each thing has one line: of two nobody knows which one counts. */
function once<V>(map: Map<string, V>, key: string, value: V): string | undefined {
  if (map.has(key)) return `a second line of its kind about ${key}`
  map.set(key, value)
  return undefined
}

/** As it was verified where the snapshot was taken: its signature is not part of one. */
function artifactOf<A>(
  kind: ArtifactKind<A>,
  { hash, name, signedAt, text }: Extract<SnapshotLine, { line: "artifact" }>
): Result.Result<Verified<A>, string> {
  const bytes = encodeUtf8(text)
  const parsed = parseStrict(bytes)
  const decoded = parsed.ok ? kind.decode(parsed.value) : { ok: false as const, problem: parsed.problem.detail }
  return decoded.ok
    ? Result.succeed({ value: decoded.value, bytes, signature: new Uint8Array(), hash, signedAt })
    : Result.fail(`${name} is not a ${kind.name}: ${decoded.problem}`)
}
