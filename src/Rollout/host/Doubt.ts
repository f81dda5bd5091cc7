/**
 * What the agent knows of its probes beside what they said: which cannot be run, and which failed before the switch already.
 * Neither travels (house rule 3): the control plane hears what a probe says in the end.
 */
import type { SoakingRecord } from "../../Schema/HostRecord.ts"
import { omit, own } from "./Model.ts"

export type ProbeFact =
  /** A probe cannot be run, since epoch ms; `reason` for people. */
  | { readonly kind: "Inconclusive"; readonly probeName: string; readonly since: number; readonly reason: string }
  /** It could be run again. */
  | { readonly kind: "Conclusive"; readonly probeName: string }
  /** All probes that failed before the switch already, as they are declared now, and that may not fail the release by it. */
  | { readonly kind: "Excused"; readonly probes: ReadonlyArray<string> }

type Doubts = NonNullable<SoakingRecord["inconclusive"]>

export function learnOfProbes(record: SoakingRecord, fact: ProbeFact): SoakingRecord {
  switch (fact.kind) {
    case "Inconclusive": {
      const { probeName, reason, since } = fact
      return { ...record, inconclusive: { ...record.inconclusive, [probeName]: { since, reason } } }
    }
    case "Conclusive":
      return withDoubts(record, Object.entries(record.inconclusive ?? {}).filter(([name]) => name !== fact.probeName))
    case "Excused":
      return fact.probes.length === 0 ? omit(record, ["excused"]) : { ...record, excused: fact.probes }
  }
}

/** A probe that is no longer declared holds nothing. */
export function doubtsOfDeclared(record: SoakingRecord, topology: Readonly<Record<string, unknown>>): SoakingRecord {
  return withDoubts(record, Object.entries(record.inconclusive ?? {}).filter(([name]) => Object.hasOwn(topology, name)))
}

function withDoubts(record: SoakingRecord, doubts: ReadonlyArray<readonly [string, Doubts[string]]>): SoakingRecord {
  return doubts.length === 0 ? omit(record, ["inconclusive"]) : { ...record, inconclusive: Object.fromEntries(doubts) }
}

/** Whether what the probe says cannot fail the release: it failed before the switch, and has not passed since. */
export function isExcused(record: SoakingRecord, name: string): boolean {
  return record.excused?.includes(name) === true && own(record.probes, name)?.lastPassAt === undefined
}
