/**
 * What the `check` of every program says, and what they all look at: the trust file, certificates, directories, databases.
 * Everything is looked at, whatever was wrong before it, and what is right is said too. Changes nothing. Owns no rules: each
 * is asked of the code that the programs run with.
 */
import { Clock, Console, Effect, FileSystem, Option, Result } from "effect"
import { X509Certificate } from "node:crypto"
import { formatTimestamp } from "../Schema/Primitives.ts"
import { printable } from "../Schema/Words.ts"
import { activeKeys, keyProblems, readTrustRoots } from "../Trust/Keys.ts"
import { unusable } from "./CommandLine.ts"
import type { DatabaseError } from "./Disk/Database.ts"
import type { DatabaseReader } from "./Disk/DatabaseReader.ts"
import { TrustFile } from "./Disk/TrustFile.ts"

/** One thing that was looked at. `at`: the source of the option that named it. */
export interface Finding {
  readonly ok: boolean
  readonly at: string
  readonly text: string
}

export const good = (at: string, text: string): Finding => ({ ok: true, at, text })
export const bad = (at: string, text: string): Finding => ({ ok: false, at, text })

/** Prints all, and fails with those that are wrong. */
export const report = Effect.fnUntraced(function*(findings: ReadonlyArray<Finding>) {
  for (const { at, ok, text } of findings) yield* Console.log(printable(`${ok ? "ok   " : "wrong"}  ${text} (${at})`))
  const wrong = findings.filter(({ ok }) => !ok)
  if (wrong.length > 0) return yield* unusable(wrong.map(({ at, text }) => ({ at, message: printable(text) })))
})

/** The trust file and its keys. */
export const trust = Effect.fnUntraced(function*(file: string, at: string) {
  const read = yield* Effect.result((yield* TrustFile).read)
  if (Result.isFailure(read)) return [bad(at, read.failure.message)]
  const roots = readTrustRoots(read.success)
  if (!roots.ok) return [bad(at, `${file}: ${roots.problem}`)]
  const slot = roots.value.ciReleaseKey
  const active = activeKeys(slot, Math.floor(yield* Clock.currentTimeMillis))
  const problems = keyProblems(slot).map((problem) => bad(at, `${file}: ciReleaseKey.${problem}`))
  if (active.length === 0) return [...problems, bad(at, `${file}: no release key is active now`)]
  return problems.length > 0
    ? problems
    : [good(at, `${file}: release keys ${active.map(({ place }) => place).join(", ")}`)]
})

/** The common name of a certificate; empty when it has none. */
export const commonNameOf = (pem: string): string => /^CN=(.*)$/m.exec(new X509Certificate(pem).subject)?.[1] ?? ""

/** Whether a certificate is valid now. `pem`: may hold several; the first is looked at. */
export const period = Effect.fnUntraced(function*(pem: string, at: string) {
  const certificate = new X509Certificate(pem)
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
  const now = yield* Clock.currentTimeMillis
  const text = `${formatTimestamp(from)} to ${formatTimestamp(to)}`
  return from <= now && now <= to
    ? good(at, `certificate valid from ${text}`)
    : bad(at, `the certificate is only valid from ${text}`)
})

/** Write permission of group and others. */
const foreignWrite = 0o022

/** A directory that the program makes when it is missing: it, or the nearest one above it, must take files. */
export const writable = Effect.fnUntraced(function*(directory: string, at: string) {
  const fs = yield* FileSystem.FileSystem
  let existing = directory
  while (existing !== "/" && !(yield* Effect.orElseSucceed(fs.exists(existing), () => false))) {
    existing = existing.slice(0, Math.max(1, existing.lastIndexOf("/")))
  }
  const stat = yield* Effect.option(fs.stat(existing))
  if (Option.isNone(stat) || stat.value.type !== "Directory") return bad(at, `${existing} is not a directory`)
  const access = yield* Effect.result(fs.access(existing, { writable: true }))
  if (Result.isFailure(access)) return bad(at, `${existing} cannot be written`)
  if (existing !== directory) return good(at, `${directory} will be made`)
  return (stat.value.mode & foreignWrite) === 0
    ? good(at, `${directory} is a directory that only its owner writes`)
    : bad(at, `others may write ${directory}; run: chmod 0700 ${directory}`)
})

/** Of what one damaged file can have wrong with it, so much is said. */
const shownDamages = 10

/** A database from end to end. */
export const pages = Effect.fnUntraced(function*(reader: DatabaseReader, at: string) {
  const damages = yield* Effect.result(Effect.try({ try: reader.damages, catch: (error) => error }))
  if (Result.isFailure(damages)) return [bad(at, errorText(damages.failure))]
  return damages.success.length === 0
    ? [good(at, `${reader.file}: every page and index is whole`)]
    : damages.success.slice(0, shownDamages).map((damage) => bad(at, `${reader.file}: ${damage}`))
})

/** What is wrong with a database that cannot be looked at. */
export const unreadable =
  (at: string) => (error: DatabaseError | { readonly message: string }): ReadonlyArray<Finding> => [
    bad(at, error.message)
  ]

export const errorText = (error: unknown): string => error instanceof Error ? error.message : String(error)
