/**
 * What a failed Nix command means. Every failure of Nix ends with exit 1 and only its text tells them apart, in other words
 * in each version (nix.md §3: 2.8.0 and 2.26.3): the table of this file's tests. Two things its text hides: whether a
 * closure that cannot be substituted is absent or its cache could not be asked, and whether a missing file is missing or
 * forbidden. Those end in a question that our own look at the caches answers (`Cache.ts`).
 *
 * Pure. Never asked about a command that succeeded: its warnings are about caches that another one stood in for.
 */
import type { RealiseFailure } from "../Activator.ts"
import type { NixMessage } from "./NixLog.ts"

/** What only the caches themselves can tell. */
export type Question =
  /** Nix found no substitute for these store paths; `untold`: what it said about caches before. */
  | { readonly _tag: "Unsubstitutable"; readonly paths: ReadonlyArray<string>; readonly warnings: string }
  /** A cache describes a path whose file, at this address, it does not give. */
  | { readonly _tag: "FileRefused"; readonly url: string; readonly detail: string }

/** One cache's answer about one thing, as our own GET found it; `Unasked`: not a cache that is asked over HTTP. */
export interface CacheFinding {
  readonly cache: string
  readonly answer: "Present" | "Absent" | "Unreachable" | "Auth" | "Config" | "Unasked"
  readonly detail: string
}

type HostFault = Extract<RealiseFailure, { readonly _tag: "HostFault" }>["fault"]

const hostFaults: ReadonlyArray<readonly [RegExp, HostFault]> = [
  [/No space left on device|Disk quota exceeded|database or disk is full/i, "disk"],
  [/remounting .* writable|Read-only file system|readonly database/i, "readOnly"],
  [/cannot connect to (?:socket|daemon)/i, "daemon"],
  [
    /\/db\/schema' is corrupt|SQLite (?:statement|database)|file is not a database|disk image is malformed|cannot open Nix database/i,
    "database"
  ]
]

/** Of an error, in this order: the first that fits names the outcome. */
const failures: ReadonlyArray<readonly [RegExp, Exclude<RealiseFailure["_tag"], "HostFault" | "Absent">]> = [
  [/interrupted by the user/i, "Cancelled"],
  [/not signed by any of the keys|lacks a (?:valid )?signature/i, "Untrusted"],
  [/\.narinfo' is corrupt|^(?:error: )?NAR info file .* is corrupt/im, "Corrupt"],
  [/\((?:60|77|83|90|91)\)|SSL (?:peer )?certificate/i, "CacheConfig"],
  [/unable to download '[^']*(?:\.narinfo|\/nix-cache-info)'/i, "CacheUnreachable"],
  [/unable to download|curl error|Timeout was reached|HTTP error/i, "Transient"],
  [
    /hash mismatch|bad archive|is corrupt|NAR for .* is incomplete|(?:Failed to open|Truncated|corrupted) .*(?:archive|input)/i,
    "Corrupt"
  ]
]

const unsigned = /not signed by any of the keys|lacks a (?:valid )?signature/i
const unsubstitutable = /don't know how to build these paths|no substituter that can build/i
/** The last word of Nix about a path; what decides was said before. */
const lastWord = /^(?:error: )?(?:build of .* failed|cannot repair path .*|path '[^']+' is required, but .*)/i
const fileRefused = /file '([^']+)' does not exist in binary cache '([^']+)'/i
const storePath = /^\/\S+\/[0-9a-z]{32}-\S+$/

const errorLevel = 0
const warningLevel = 1

const textsOf = (messages: ReadonlyArray<NixMessage>, level: number): ReadonlyArray<string> =>
  messages.filter((message) => message.level === level).map(({ text }) => text)

/** The store paths that Nix lists after it said that it cannot have them. */
function missingPaths(messages: ReadonlyArray<NixMessage>, closurePath: string): ReadonlyArray<string> {
  const at = messages.findIndex(({ text }) => unsubstitutable.test(text))
  const listed: Array<string> = []
  for (const { text } of at < 0 ? [] : messages.slice(at + 1)) {
    if (!storePath.test(text)) break
    listed.push(text)
  }
  return listed.length > 0 ? listed : [closurePath]
}

function hostFaultOf(detail: string): RealiseFailure | undefined {
  const fault = hostFaults.find(([text]) => text.test(detail))?.[1]
  return fault === undefined ? undefined : { _tag: "HostFault", fault, detail }
}

/** Of what a command said before it failed. `closurePath`: the store path that was asked for. */
export function classify(messages: ReadonlyArray<NixMessage>, closurePath: string): RealiseFailure | Question {
  const errors = textsOf(messages, errorLevel)
  const telling = errors.filter((text) => !lastWord.test(text))
  const warnings = textsOf(messages, warningLevel).join("\n")
  // The errors as a whole: an outer one may repeat an inner one in other words.
  const detail = telling.join("\n")
  if (telling.length > 0) {
    const refused = fileRefused.exec(detail)
    if (refused !== null) {
      return { _tag: "FileRefused", url: `${refused[2]!.replace(/\/+$/, "")}/${refused[1]!}`, detail }
    }
    const tag = failures.find(([text]) => text.test(detail))?.[1]
    return hostFaultOf(detail) ?? { _tag: tag ?? "Transient", detail }
  }
  // A wrong signature is said even when another cache could not be asked: somebody serves this closure without the right.
  if (unsigned.test(warnings)) {
    return { _tag: "Untrusted", detail: warnings.split("\n").filter((line) => unsigned.test(line)).join("\n") }
  }
  if (errors.length > 0 || messages.some(({ text }) => unsubstitutable.test(text))) {
    return { _tag: "Unsubstitutable", paths: missingPaths(messages, closurePath), warnings }
  }
  return { _tag: "Transient", detail: warnings === "" ? "it failed without a word" : warnings }
}

const unreachable = /unable to download/i
const configured = /binary cache '[^']+' is for Nix stores with prefix|does not appear to be a binary cache/i

const describe = (findings: ReadonlyArray<CacheFinding>): string =>
  findings.map(({ cache, detail }) => `${cache}: ${detail}`).join("; ")

/**
 * Why there is no substitute, of what each configured cache answered about a missing path: a cache that could not be asked
 * might have it, so it is only absent when every one said so.
 */
export function classifyAbsence(
  question: Extract<Question, { readonly _tag: "Unsubstitutable" }>,
  findings: ReadonlyArray<CacheFinding>
): RealiseFailure {
  const what = `there is no substitute for ${question.paths.slice(0, 3).join(", ")}`
  const detail = [what, describe(findings), question.warnings].filter((text) => text !== "").join("\n")
  if (findings.length === 0) return { _tag: "CacheConfig", detail: `${what}: no substituter is configured` }
  const some = (answer: CacheFinding["answer"]) => findings.some((finding) => finding.answer === answer)
  if (some("Unreachable")) return { _tag: "CacheUnreachable", detail }
  if (some("Auth")) return { _tag: "CacheAuth", detail }
  if (some("Config") || configured.test(question.warnings)) return { _tag: "CacheConfig", detail }
  if (unreachable.test(question.warnings)) return { _tag: "CacheUnreachable", detail }
  // It was pushed in between.
  if (some("Present")) return { _tag: "Transient", detail }
  return { _tag: "Absent", detail }
}

/** Why a cache does not give a file that it describes. */
export function classifyRefusal(
  question: Extract<Question, { readonly _tag: "FileRefused" }>,
  { answer, detail }: CacheFinding
): RealiseFailure {
  const both = `${question.detail}\n${detail}`
  switch (answer) {
    case "Unreachable":
      return { _tag: "CacheUnreachable", detail: both }
    case "Auth":
      return { _tag: "CacheAuth", detail: both }
    case "Present":
      return { _tag: "Transient", detail: both }
    case "Absent":
    case "Config":
    case "Unasked":
      return { _tag: "CacheConfig", detail: `the cache describes what it does not have: ${both}` }
  }
}
