/**
 * What one commit writes, and what is done after it: the reducer's output as data. `Journal.ts` carries out writes,
 * `Apply.ts` carries out actions.
 */
import type { Contact, Row } from "../Schema/AgentJournal.ts"
import type { GuardOrder } from "../Schema/GuardOrder.ts"
import type { LogMessage } from "../Schema/Logs.ts"
import type { TrustMark } from "./Input.ts"
import type { SlotName } from "./Intents.ts"
import type { Folded, RejectionRecord } from "./State.ts"

/** Stored form of a row's delivery; facts without a sequence number have none. */
export type Delivery = "pending" | "delivered" | "refused" | "parked"

export type Write =
  | { readonly _tag: "AppendRow"; readonly row: Row }
  /** The stored record of a rollout after its rows of this batch. */
  | {
    readonly _tag: "PutRollout"
    readonly rolloutId: string
    readonly folded: Folded
    readonly ackedThrough: number | undefined
  }
  | {
    readonly _tag: "MarkRow"
    readonly rolloutId: string
    readonly seq: number
    readonly delivery: Exclude<Delivery, "pending">
    readonly detail: string
  }
  /** Every row from `fromSeq` is undelivered again. */
  | { readonly _tag: "Rewind"; readonly rolloutId: string; readonly fromSeq: number }
  /** Replaces all rows of a rollout by one that stands for them (D6). */
  | { readonly _tag: "Summarise"; readonly row: Row }
  | { readonly _tag: "ForgetRollout"; readonly rolloutId: string }
  | { readonly _tag: "PutSeqFloor"; readonly rolloutId: string; readonly seq: number }
  | { readonly _tag: "DropSeqFloor"; readonly rolloutId: string }
  | { readonly _tag: "PutRejection"; readonly rejection: RejectionRecord }
  | { readonly _tag: "DropRejection"; readonly rolloutId: string }
  | { readonly _tag: "PutTrust"; readonly mark: TrustMark }
  | {
    readonly _tag: "PutHostFact"
    readonly fact: "firstObserved" | "lastConverged" | "bootId"
    readonly value: string
  }
  /** `settled`: this commit says that the activation ended well, which is not true once its guard has fired. */
  | { readonly _tag: "DisarmGuard"; readonly order: GuardOrder; readonly settled: boolean }
  | { readonly _tag: "PutContact"; readonly contact: Contact }

export type Action =
  | { readonly _tag: "Ring"; readonly slot: SlotName }
  /** A line for the log, written after the commit that it tells of. */
  | { readonly _tag: "Tell"; readonly entry: LogMessage }
