/**
 * The four signed artifacts (protocol.md §8.1–8.4): what a release publishes and every program verifies before use. Owns
 * their shapes and decoders; signatures, freshness and how the artifacts belong together are in `src/Trust`.
 *
 * Optional fields are written as `null` and read when missing or `null`, save those the original leaves out when empty.
 * Fields marked "additive" are ours and ignored by the original. Unknown fields are ignored; the signature covers them.
 */
import { Effect, Predicate, Schema, SchemaGetter, SchemaIssue } from "effect"
import { type Decoded, decoder } from "./Decode.ts"
import {
  ClosureName,
  defaulted,
  Hostname,
  isClosureName,
  isHostname,
  mapOf,
  nullable,
  omittable,
  text,
  Timestamp,
  UInt32,
  WireId
} from "./Primitives.ts"
import { OnHealthFailure } from "./Wire.ts"

/** The only version that is read. */
export const artifactSchemaVersion = 1

/**
 * Part of every rollout id and of its address, therefore as strict as the routes (protocol.md §7.5). The one name that
 * JavaScript objects cannot hold as data is refused here and in every other map.
 */
export const ChannelName = Schema.String.check(
  Schema.isPattern(/^(?!__proto__$)[a-z0-9_-]{1,64}$/, {
    message: "expected a channel name: a-z, 0-9, '_' or '-', 1 to 64 long"
  })
)
const PolicyName = WireId.check(
  Schema.isPattern(/^(?!__proto__$)/, { message: "expected another name than __proto__" })
)
const Tag = WireId

/** Who signed, when, and for which commit. `signedAt` is `null` until the artifact is signed. */
export const Meta = Schema.Struct({
  schemaVersion: UInt32,
  signedAt: nullable(Timestamp),
  ciCommit: nullable(text(255)),
  /** Absent means `ed25519`; for people only, since the key decides the algorithm and never the artifact (P-25). */
  signatureAlgorithm: omittable(text(64))
})
export type Meta = typeof Meta.Type

/** Matches a host when any clause does; an empty selector matches none (protocol.md §8.1). */
export const Selector = Schema.Struct({
  tags: defaulted(Schema.Array(Tag), []),
  tagsAny: defaulted(Schema.Array(Tag), []),
  hosts: defaulted(Schema.Array(Hostname), []),
  channel: nullable(ChannelName),
  all: defaulted(Schema.Boolean, false)
})
export type Selector = typeof Selector.Type

export const HealthGate = Schema.Struct({
  systemdFailedUnits: omittable(Schema.Struct({ max: UInt32 }))
})
export type HealthGate = typeof HealthGate.Type

export const FleetHost = Schema.Struct({
  platform: text(255),
  tags: Schema.Array(Tag),
  channel: ChannelName,
  /** Base name of the store path; `null` for a host that is declared and has nothing to run. */
  closureHash: nullable(ClosureName),
  /** OpenSSH line `ssh-ed25519 …`. */
  pubkey: nullable(text(1024)),
  pin: omittable(Schema.Struct({ commit: text(255), reason: text(4096), expiresAt: omittable(Timestamp) }))
})
export type FleetHost = typeof FleetHost.Type

export const Channel = Schema.Struct({
  rolloutPolicy: PolicyName,
  reconcileIntervalMinutes: UInt32,
  /** Minutes after `signedAt` in which the channel's artifacts may be used (D14). */
  freshnessWindow: UInt32,
  signingIntervalMinutes: UInt32
})
export type Channel = typeof Channel.Type

const soak = {
  soakMinutes: UInt32,
  /** Additive (D12): wins over `soakMinutes`. */
  soakSeconds: omittable(UInt32)
}

export const RolloutPolicy = Schema.Struct({
  /** For people, save `all-at-once`, which without waves means one wave of everybody without soak. */
  strategy: text(255),
  waves: Schema.Array(Schema.Struct({ selector: Selector, ...soak })),
  healthGate: defaulted(HealthGate, {}),
  onHealthFailure: OnHealthFailure
})
export type RolloutPolicy = typeof RolloutPolicy.Type
export type PolicyWave = RolloutPolicy["waves"][number]

/** A wave with its selector resolved to hosts. */
export const Wave = Schema.Struct({ hosts: Schema.Array(Hostname), ...soak })
export type Wave = typeof Wave.Type

/** `gated` waits for `gates`: host names. */
export const Edge = Schema.Struct({ gated: Hostname, gates: Hostname, reason: nullable(text(4096)) })
export type Edge = typeof Edge.Type

/** Earlier spellings of fields, read and never written. Both spellings at once are refused: neither may win by chance. */
export function withAliases<S extends Schema.Constraint & { readonly Encoded: object }>(
  schema: S,
  aliases: Readonly<Record<string, string>>
) {
  return Schema.Record(Schema.String, Schema.Json).pipe(Schema.decodeTo(schema, {
    decode: SchemaGetter.transformEffect((fields: { readonly [key: string]: Schema.Json }, options) => {
      const twice = Object.keys(fields).find((key) => aliases[key] !== undefined && Object.hasOwn(fields, aliases[key]))
      return twice === undefined
        ? Effect.succeed(Object.fromEntries(Object.entries(fields).map(([key, value]) => [aliases[key] ?? key, value])))
        : Effect.fail(
          new SchemaIssue.InvalidValue(
            { message: `expected only one of ${twice} and ${aliases[twice]}` },
            fields,
            options
          )
        )
    }),
    encode: SchemaGetter.transform((encoded: S["Encoded"]) => Object.fromEntries(Object.entries(encoded)))
  }))
}

/** `gated` waits for `gates`: channel names. */
export const ChannelEdge = withAliases(
  Schema.Struct({ gates: ChannelName, gated: ChannelName, reason: nullable(text(4096)) }),
  { before: "gates", after: "gated" }
)
export type ChannelEdge = typeof ChannelEdge.Type

const limits = { maxInFlight: nullable(UInt32), maxInFlightPct: nullable(UInt32) }

/** At most so many of the selected hosts in flight at once; percentages round down, at least 1 (D17). */
export const DisruptionBudget = Schema.Struct({ selector: Selector, ...limits })
export type DisruptionBudget = typeof DisruptionBudget.Type

/** `fleet.resolved.json` (protocol.md §8.1). */
export const FleetResolved = Schema.Struct({
  schemaVersion: UInt32,
  hosts: mapOf(Hostname, FleetHost),
  channels: mapOf(ChannelName, Channel),
  rolloutPolicies: defaulted(mapOf(PolicyName, RolloutPolicy), {}),
  waves: mapOf(ChannelName, Schema.Array(Wave)),
  edges: defaulted(Schema.Array(Edge), []),
  channelEdges: defaulted(Schema.Array(ChannelEdge), []),
  disruptionBudgets: defaulted(Schema.Array(DisruptionBudget), []),
  meta: Meta
})
export type FleetResolved = typeof FleetResolved.Type

export const HostSetEntry = Schema.Struct({ hostname: Hostname, waveIndex: UInt32, targetClosure: ClosureName })
export type HostSetEntry = typeof HostSetEntry.Type

/** A budget with its selector resolved to hosts at release time. */
export const ManifestBudget = Schema.Struct({ selector: Selector, hosts: Schema.Array(Hostname), ...limits })
export type ManifestBudget = typeof ManifestBudget.Type

function isAscending(entries: ReadonlyArray<HostSetEntry>): boolean {
  return entries.every((entry, index) => index === 0 || entries[index - 1]!.hostname < entry.hostname)
}

/** `rollouts/<channel>@<ref>.json` (protocol.md §8.2): what one rollout does, frozen. */
export const RolloutManifest = Schema.Struct({
  schemaVersion: UInt32,
  displayName: text(512),
  channel: ChannelName,
  /** The release's commit; "" when the release had none. */
  channelRef: Schema.String.check(
    Schema.isPattern(/^[^\u0000-\u001f\u007f/]{0,128}$/, { message: "expected a commit, or an empty string" })
  ),
  fleetResolvedHash: Schema.String.check(
    Schema.isPattern(/^[0-9a-f]{64}$/, { message: "expected a SHA-256 in lower-case hex" })
  ),
  /** Ascending by host name, so that a host has one target (protocol.md §8.2). */
  hostSet: Schema.Array(HostSetEntry).check(
    Schema.makeFilter(isAscending, { message: "expected hosts in ascending order, each once" })
  ),
  healthGate: defaulted(HealthGate, {}),
  disruptionBudgets: defaulted(Schema.Array(ManifestBudget), []),
  meta: Meta
})
export type RolloutManifest = typeof RolloutManifest.Type

/** Names of the two lists below the place where releases are published (protocol.md §8.3, §8.4). */
export const revocationsFile = "revocations.json"
export const bootstrapNoncesFile = "bootstrap-nonces.json"

/** `revocations.json` (protocol.md §8.3): certificates of a host issued before `notBefore` are void. An empty list is usual. */
export const Revocations = Schema.Struct({
  schemaVersion: UInt32,
  revocations: Schema.Array(Schema.Struct({
    hostname: Hostname,
    notBefore: Timestamp,
    reason: nullable(text(4096)),
    revokedBy: nullable(text(255))
  })),
  meta: Meta
})
export type Revocations = typeof Revocations.Type

/** `bootstrap-nonces.json` (protocol.md §8.4): tokens that may still enroll a host. */
export const BootstrapNonces = Schema.Struct({
  schemaVersion: UInt32,
  bootstrapNonces: Schema.Array(Schema.Struct({
    nonce: WireId,
    hostname: Hostname,
    expiresAt: Timestamp,
    mintedAt: nullable(Timestamp),
    mintedBy: nullable(text(255))
  })),
  meta: Meta
})
export type BootstrapNonces = typeof BootstrapNonces.Type

export const decodeFleetResolved = decoder(FleetResolved)
const decodeWholeManifest = decoder(RolloutManifest)

/**
 * By its schema, save that the entries of a well-formed host set are read in one loop: there are ten thousand of them, and
 * they are nearly all of a manifest. What the loop does not take, the schema judges.
 */
export function decodeRolloutManifest(input: unknown): Decoded<RolloutManifest> {
  if (!Predicate.isObject(input)) return decodeWholeManifest(input)
  const hostSet = readHostSet(input["hostSet"])
  if (hostSet === undefined) return decodeWholeManifest(input)
  const rest = decodeWholeManifest({ ...input, hostSet: [] })
  return rest.ok ? { ok: true, value: { ...rest.value, hostSet } } : rest
}

/** The entries as `HostSetEntry` decodes them, in ascending order; `undefined` when one of them is anything else. */
function readHostSet(input: unknown): ReadonlyArray<HostSetEntry> | undefined {
  if (!Array.isArray(input)) return undefined
  const entries: Array<HostSetEntry> = []
  let previous = ""
  for (const entry of input) {
    const read = readHostSetEntry(entry)
    if (read === undefined || read.hostname <= previous) return undefined
    previous = read.hostname
    entries.push(read)
  }
  return entries
}

function readHostSetEntry(entry: unknown): HostSetEntry | undefined {
  if (!Predicate.isObject(entry)) return undefined
  const { hostname, targetClosure, waveIndex } = entry
  const isPlain = typeof hostname === "string" && typeof waveIndex === "number" && typeof targetClosure === "string" &&
    // A wave of 0 might be -0, which is for the schema to refuse.
    Number.isInteger(waveIndex) && (waveIndex > 0 || Object.is(waveIndex, 0)) && waveIndex <= 4_294_967_295
  return isPlain && isHostname(hostname) && isClosureName(targetClosure)
    ? { hostname, waveIndex, targetClosure }
    : undefined
}

export const decodeRevocations = decoder(Revocations)
export const decodeBootstrapNonces = decoder(BootstrapNonces)

/** The JSON value of an artifact, nulls explicit: what canonicalisation and signing take (protocol.md §8.5). */
export const encodeFleetResolved = Schema.encodeSync(FleetResolved)
export const encodeRolloutManifest = Schema.encodeSync(RolloutManifest)
export const encodeRevocations = Schema.encodeSync(Revocations)
export const encodeBootstrapNonces = Schema.encodeSync(BootstrapNonces)
