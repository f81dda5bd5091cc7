/** What one commit writes, as data: the decisions' output that `Journal.ts` carries out. */
import type {
  ChannelRecovery,
  DispatchRow,
  HostSeen,
  LogRow,
  NoncesInForce,
  NonceUse,
  Overlay,
  Quarantine,
  RenewalChain,
  RevocationsInForce,
  RolloutPlan
} from "../Schema/ControlPlaneJournal.ts"
import type { HostRecord, RolloutRecord } from "../Schema/HostRecord.ts"
import type { Intervention } from "../Schema/Interventions.ts"

export type Write =
  | { readonly _tag: "AppendLog"; readonly row: LogRow }
  | { readonly _tag: "PutRollout"; readonly record: RolloutRecord }
  /** Written once for each attempt: as large as the fleet. */
  | { readonly _tag: "PutPlan"; readonly rolloutId: string; readonly plan: RolloutPlan }
  | {
    readonly _tag: "PutHostRecord"
    readonly record: HostRecord
    readonly lastSeq: number
    readonly leasedAt: number | undefined
    readonly offeredUntil: number | undefined
    readonly overlay: Overlay | undefined
  }
  | {
    readonly _tag: "PutChannel"
    readonly channel: string
    readonly current: string | undefined
    readonly recovery: ChannelRecovery | undefined
  }
  | { readonly _tag: "PutDispatch"; readonly row: DispatchRow }
  | { readonly _tag: "DropDispatch"; readonly host: string }
  /** `lifted`: an operator took it out of force; it stays on record. */
  | { readonly _tag: "PutQuarantine"; readonly quarantine: Quarantine; readonly lifted: boolean }
  /** Without one: nothing holds the subject any more. */
  | { readonly _tag: "PutIntervention"; readonly subject: string; readonly intervention: Intervention | undefined }
  | { readonly _tag: "PutSeen"; readonly seen: HostSeen }
  | { readonly _tag: "PutNextDelivery"; readonly nextDelivery: number }
  | { readonly _tag: "PutRevocations"; readonly list: RevocationsInForce }
  | { readonly _tag: "PutNonces"; readonly list: NoncesInForce }
  | { readonly _tag: "PutNonceUse"; readonly use: NonceUse }
  | { readonly _tag: "PutChains"; readonly host: string; readonly chains: ReadonlyArray<RenewalChain> }
