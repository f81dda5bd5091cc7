/** Reads and writes `trust.json` on an operator's machine. How it gets to hosts is up to whatever configures them. */
import { Effect, Schema } from "effect"
import { type KeySlot, TrustRoots } from "../Schema/Trust.ts"
import { encodeUtf8 } from "../Trust/CanonicalJson.ts"
import { readTrustRoots } from "../Trust/Keys.ts"
import { configError } from "./Failure.ts"
import { publish, readInput } from "./Files.ts"

/** The roles of keys: releases and their lists, and bootstrap tokens. */
export const slotNames = ["ciReleaseKey", "orgRootKey"] as const
export type SlotName = (typeof slotNames)[number]

const encodeTrustRoots = Schema.encodeSync(TrustRoots)

/** A trust file that believes nothing but what is given. */
export const trustRootsWith = (ciReleaseKey: KeySlot, orgRootKey: KeySlot | null): TrustRoots => ({
  schemaVersion: 1,
  ciReleaseKey,
  cacheKeys: [],
  orgRootKey,
  rootCaPem: null,
  issuanceCaPems: []
})

export const trustText = (roots: TrustRoots): string => JSON.stringify(encodeTrustRoots(roots), undefined, 2)

export const readTrustFile = Effect.fnUntraced(function*(path: string) {
  const roots = readTrustRoots(yield* readInput(path, "trust file"))
  return roots.ok ? roots.value : yield* configError(`${path}: ${roots.problem}`)
})

export const writeTrustFile = (path: string, roots: TrustRoots) =>
  publish([{ path, bytes: encodeUtf8(`${trustText(roots)}\n`) }])
