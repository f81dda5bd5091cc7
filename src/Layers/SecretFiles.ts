/**
 * Whether files that hold secrets are for those alone who need them. Only permissions are looked at: a file that is not there,
 * or cannot be read, is told by who reads it.
 *
 * A file of one's own is for nobody else. One that somebody else put there for this program, root as a rule, may let a group
 * read it: that is how a service with a user of its own gets it.
 */
import { Effect, FileSystem, Option } from "effect"
import { bad, type Finding } from "./Findings.ts"

export interface SecretFile {
  readonly file: string
  /** What it holds: `the key of …`. */
  readonly what: string
  /** The source of the option that named it. */
  readonly at: string
}

export interface Permissions {
  readonly mode: number
  readonly uid: number
}

/** What nobody else may do with a file of one's own, and what nobody may do with one that is lent. */
const foreign = 0o077
const foreignToLent = 0o037

/** systemd keeps others out by the directory; the mode of what it lends may show the mask of an access list. */
const credentials = /^\/run\/credentials\/[^/]+\/[^/]+$/

/** `reader`: the user that this process is. */
export function isExposed(file: string, { mode, uid }: Permissions, reader: number): boolean {
  if (credentials.test(file)) return false
  return (mode & (uid === reader ? foreign : foreignToLent)) !== 0
}

const shownMode = (mode: number): string => (mode & 0o777).toString(8).padStart(4, "0")

/** One finding for each that others may use. */
export const exposedSecrets = Effect.fnUntraced(function*(secrets: ReadonlyArray<SecretFile>) {
  const fs = yield* FileSystem.FileSystem
  const reader = process.getuid?.() ?? 0
  const findings: Array<Finding> = []
  for (const { at, file, what } of secrets) {
    const stat = yield* Effect.option(fs.stat(file))
    if (Option.isNone(stat)) continue
    const { mode, uid } = stat.value
    if (!isExposed(file, { mode, uid: Option.getOrElse(uid, () => reader) }, reader)) continue
    findings.push(bad(at, `others may use ${what}, ${file} (mode ${shownMode(mode)}); run: chmod 0600 ${file}`))
  }
  return findings
})
