/**
 * The `evidence` probe (agent.md §9.3): reads what a collector of this host found and signed, and says what it means for the
 * controls that are asked about. `Trust/Evidence.ts` says whether it may be believed at all.
 *
 * Failures: a file that is not there or cannot be read is a probe that could not be run; a file that is there and is not what
 * it should be (not an ordinary file, too large, not signed, of another host, stale) is a failure.
 */
import { Clock, Effect } from "effect"
import type { Evidence, EvidenceControl } from "../../Schema/Evidence.ts"
import type { ControlMode, HealthCheck } from "../../Schema/HealthChecks.ts"
import type { ProbeMode, ProbeSubResult } from "../../Schema/Wire.ts"
import { judgeEvidence } from "../../Trust/Evidence.ts"
import { errorCode } from "../Disk/AtomicFile.ts"
import { readSmallFile } from "../Disk/SmallFile.ts"
import { errorText } from "./DurableFiles.ts"
import { fail, inconclusive, type ProbeOutcome } from "./Probes.ts"

export type EvidenceCheck = Extract<HealthCheck, { readonly kind: "evidence" }>

export interface EvidenceConfig {
  readonly hostname: string
  /** OpenSSH public key of this host, for checks that name none. */
  readonly keyFile: string
}

type SubResult = typeof ProbeSubResult.Type

/** As many as an event of the wire lists, and well below the largest event that is taken. */
const maxSubResults = 4096
const maxSubResultBytes = 1_048_576
/** Controls that a reason names. */
const namedControls = 5

/** The framework of a control that none relates to anything (agent.md §9.3). */
const noFramework = "custom"

/** How one control counts, and why it counts differently from the probe. */
interface Weight {
  readonly mode: ProbeMode
  readonly overrideReason?: string
}

const own = <V>(map: { readonly [name: string]: V } | undefined, name: string): V | undefined =>
  map !== undefined && Object.hasOwn(map, name) ? map[name] : undefined

const overridden = ({ mode, reason }: ControlMode): Weight => ({ mode, overrideReason: reason })

/** One for each article; one without article where the list is empty. */
function ofFramework(control: EvidenceControl, framework: string, articles: ReadonlyArray<string>, weight: Weight) {
  const { mode, overrideReason } = weight
  const result: SubResult = {
    controlId: control.controlId,
    status: control.passed ? "pass" : "fail",
    framework,
    effectiveMode: mode,
    ...(overrideReason === undefined ? {} : { overrideReason })
  }
  return articles.length === 0 ? [result] : articles.map((article): SubResult => ({ ...result, article }))
}

function frameworkResults(check: EvidenceCheck, framework: string, evidence: Evidence): ReadonlyArray<SubResult> {
  return evidence.controls.flatMap((control) => {
    const articles = own(control.frameworkArticles, framework)
    const override = own(check.controlOverrides, control.controlId)
    const weight = override === undefined ? { mode: check.mode } : overridden(override)
    return articles === undefined || weight.mode === "disabled" ? [] : ofFramework(control, framework, articles, weight)
  })
}

/** A control that was asked for and that the collector does not know has not passed. */
function controlResults(
  controls: { readonly [id: string]: ControlMode },
  evidence: Evidence
): ReadonlyArray<SubResult> {
  return Object.entries(controls).toSorted(([a], [b]) => a < b ? -1 : 1).flatMap(([controlId, listed]) => {
    if (listed.mode === "disabled") return []
    const weight = overridden(listed)
    const found = evidence.controls.filter((control) => control.controlId === controlId)
    if (found.length === 0) {
      return ofFramework({ controlId, passed: false, frameworkArticles: {} }, noFramework, [], weight)
    }
    return found.flatMap((control) => {
      const frameworks = Object.entries(control.frameworkArticles).toSorted(([a], [b]) => a < b ? -1 : 1)
      return frameworks.length === 0
        ? ofFramework(control, noFramework, [], weight)
        : frameworks.flatMap(([framework, articles]) => ofFramework(control, framework, articles, weight))
    })
  })
}

/**
 * What believed evidence means for a check. It passes when every enforced control does; a probe that is only observed binds
 * nothing, and says how all of its controls are (A-W64).
 */
export function evaluate(check: EvidenceCheck, evidence: Evidence): ProbeOutcome {
  const subResults = check.framework === undefined
    ? controlResults(check.controls ?? {}, evidence)
    : frameworkResults(check, check.framework, evidence)
  if (subResults.length === 0) return fail(`no control of ${check.framework ?? "the listed ones"} is in the evidence`)
  if (subResults.length > maxSubResults || Buffer.byteLength(JSON.stringify(subResults)) > maxSubResultBytes) {
    return fail(`${subResults.length} results are more than can be told`)
  }
  const counted = check.mode === "observe" ? subResults : subResults.filter((one) => one.effectiveMode === "enforce")
  const failed = [...new Set(counted.filter(({ status }) => status === "fail").map(({ controlId }) => controlId))]
  if (failed.length === 0) return { status: "pass", subResults }
  const more = failed.length > namedControls ? ` and ${failed.length - namedControls} more` : ""
  return { ...fail(`controls failed: ${failed.slice(0, namedControls).join(", ")}${more}`), subResults }
}

type Read =
  | { readonly ok: true; readonly bytes: Uint8Array }
  | { readonly ok: false; readonly outcome: ProbeOutcome }

function read(file: string): Read {
  try {
    return { ok: true, bytes: readSmallFile(file) }
  } catch (error) {
    const problem = `${file}: ${errorText(error)}`
    // Without a code it was there and could be opened, and is not what it should be.
    return { ok: false, outcome: errorCode(error) === undefined ? fail(problem) : inconclusive(problem) }
  }
}

export const runEvidence = Effect.fnUntraced(function*(check: EvidenceCheck, config: EvidenceConfig) {
  const now = Math.floor(yield* Clock.currentTimeMillis)
  const bytes = read(check.evidencePath)
  if (!bytes.ok) return bytes.outcome
  const signature = read(`${check.evidencePath}.sig`)
  if (!signature.ok) return signature.outcome
  const key = read(check.keyPath ?? config.keyFile)
  if (!key.ok) return key.outcome
  const verdict = judgeEvidence({
    bytes: bytes.bytes,
    signature: signature.bytes,
    key: key.bytes,
    hostname: config.hostname,
    now,
    maxAgeMs: check.maxAgeSeconds * 1000
  })
  return verdict.ok ? evaluate(check, verdict.evidence) : fail(`${check.evidencePath}: ${verdict.problem}`)
})
