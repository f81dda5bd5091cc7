/**
 * What a person writes to make a release: `nixfleet release build` turns it into `fleet.resolved.json` and its manifests
 * (`src/Operator/Declaration.ts`). Names and units are those of the artifacts (protocol.md §8.1); what they derive
 * (waves resolved to hosts, hashes, times) is not written here. Unknown fields are refused (D19).
 *
 * Owns shapes and defaults; whether the parts fit together is checked where they are put together.
 */
import { Schema } from "effect"
import { ChannelName, HealthGate, Selector } from "./Artifacts.ts"
import { strictDecoder } from "./Decode.ts"
import { defaulted, Hostname, mapOf, nullable, omittable, text, Timestamp, UInt32, WireId } from "./Primitives.ts"
import { OnHealthFailure } from "./Wire.ts"

const Name = WireId.check(Schema.isPattern(/^(?!__proto__$)/, { message: "expected another name than __proto__" }))

/** One host. `closure` is a name from `closures`, or a closure itself; without it the host has nothing to run yet. */
export const DeclaredHost = Schema.Struct({
  channel: ChannelName,
  platform: text(255),
  tags: defaulted(Schema.Array(WireId), []),
  closure: nullable(text(255)),
  /** OpenSSH line `ssh-ed25519 …` of the host's key. */
  pubkey: nullable(Schema.String.check(
    Schema.isPattern(/^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}(?: .{0,255})?$/, {
      message: "expected an OpenSSH line: ssh-ed25519 <key> [comment]"
    })
  )),
  pin: omittable(Schema.Struct({ commit: text(255), reason: text(4096), expiresAt: omittable(Timestamp) }))
})
export type DeclaredHost = typeof DeclaredHost.Type

export const DeclaredChannel = Schema.Struct({
  rolloutPolicy: Name,
  /** Minutes for which hosts believe a signed release of this channel (D14). */
  freshnessWindow: UInt32,
  /** Minutes between two signings; the window must hold two of them, so that one may fail. */
  signingIntervalMinutes: defaulted(UInt32, 60),
  reconcileIntervalMinutes: defaulted(UInt32, 30)
})
export type DeclaredChannel = typeof DeclaredChannel.Type

export const DeclaredPolicy = Schema.Struct({
  strategy: defaulted(text(255), "canary"),
  /** In order. A host belongs to the first wave that selects it. */
  waves: defaulted(
    Schema.Array(Schema.Struct({
      selector: Selector,
      /** One of the two is enough; seconds win over minutes (D12). */
      soakMinutes: omittable(UInt32),
      soakSeconds: omittable(UInt32)
    })),
    []
  ),
  healthGate: defaulted(HealthGate, {}),
  onHealthFailure: defaulted(OnHealthFailure, "rollback-and-halt")
})
export type DeclaredPolicy = typeof DeclaredPolicy.Type

export const DeclaredBudget = Schema.Struct({
  selector: Selector,
  maxInFlight: nullable(UInt32),
  maxInFlightPct: nullable(UInt32)
})
export type DeclaredBudget = typeof DeclaredBudget.Type

/** `gated` waits until `gates` has converged. */
const edge = <S extends Schema.Constraint>(end: S) =>
  Schema.Struct({ gated: end, gates: end, reason: nullable(text(4096)) })

export const FleetDeclaration = Schema.Struct({
  /** The release's commit; `--ref` overrides it. */
  ref: omittable(text(128)),
  /** Closures by a name that hosts can use instead. */
  closures: defaulted(mapOf(Name, text(255)), {}),
  channels: mapOf(ChannelName, DeclaredChannel),
  rolloutPolicies: mapOf(Name, DeclaredPolicy),
  hosts: mapOf(Hostname, DeclaredHost),
  edges: defaulted(Schema.Array(edge(Hostname)), []),
  channelEdges: defaulted(Schema.Array(edge(ChannelName)), []),
  disruptionBudgets: defaulted(Schema.Array(DeclaredBudget), [])
})
export type FleetDeclaration = typeof FleetDeclaration.Type

export const decodeFleetDeclaration = strictDecoder(FleetDeclaration)
