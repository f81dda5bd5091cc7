/**
 * The two signed lists that a control plane follows beside its releases: revocations and bootstrap nonces (protocol.md §8.3,
 * §8.4). A change reads the published list, makes the next one from it, signs that and publishes both files, so that
 * nobody edits what is signed.
 */
import { Clock, Effect, Path } from "effect"
import { Flag } from "effect/cli"
import {
  artifactSchemaVersion,
  type BootstrapNonces,
  bootstrapNoncesFile,
  encodeBootstrapNonces,
  encodeRevocations,
  type Meta,
  type Revocations,
  revocationsFile
} from "../Schema/Artifacts.ts"
import type { Decoded } from "../Schema/Decode.ts"
import { formatTimestamp } from "../Schema/Primitives.ts"
import { canonicalText, encodeUtf8, type Json, parseStrict } from "../Trust/CanonicalJson.ts"
import { type ArtifactKind, bootstrapNoncesKind, revocationsKind, type Signed, verify } from "../Trust/Verify.ts"
import { configError, failed } from "./Failure.ts"
import { publish, readIfPresent } from "./Files.ts"
import { signatureFile } from "./Release.ts"
import type { Signing } from "./Signing.ts"

/** One of the two lists: how it is written, and what it holds before its first entry. */
export interface ListKind<A extends Signed> {
  readonly artifact: ArtifactKind<A>
  /** Name below the place where releases are published. */
  readonly file: string
  readonly encode: (value: A) => Json
  readonly empty: A
}

const meta: Meta = { schemaVersion: 1, signedAt: null, ciCommit: null }

export const revocationList: ListKind<Revocations> = {
  artifact: revocationsKind,
  file: revocationsFile,
  encode: encodeRevocations,
  empty: { schemaVersion: artifactSchemaVersion, revocations: [], meta }
}

export const nonceList: ListKind<BootstrapNonces> = {
  artifact: bootstrapNoncesKind,
  file: bootstrapNoncesFile,
  encode: encodeBootstrapNonces,
  empty: { schemaVersion: artifactSchemaVersion, bootstrapNonces: [], meta }
}

export const listDirectoryFlag = Flag.String("dir").pipe(
  Flag.withAlias("d"),
  Flag.withDescription("Directory that releases are published in; the list and its signature lie beside them")
)

/** The list that is published in `directory`, if any. */
export const readList = Effect.fnUntraced(function*<A extends Signed>(kind: ListKind<A>, directory: string) {
  const file = (yield* Path.Path).join(directory, kind.file)
  const bytes = yield* readIfPresent(file, kind.artifact.name)
  if (bytes === undefined) return undefined
  const parsed = parseStrict(bytes)
  const decoded: Decoded<A> = parsed.ok
    ? kind.artifact.decode(parsed.value)
    : { ok: false, problem: parsed.problem.detail }
  return decoded.ok
    ? decoded.value
    : yield* configError(`${file} is no list of ${kind.artifact.name}: ${decoded.problem}`)
})

/** Signs the list as of now and publishes it. Refuses to go back in time: readers would refuse the list as replayed (D14). */
export const publishList = Effect.fnUntraced(function*<A extends Signed>(
  kind: ListKind<A>,
  directory: string,
  list: A,
  { key, sign }: Signing
) {
  const file = (yield* Path.Path).join(directory, kind.file)
  const now = Math.floor(yield* Clock.currentTimeMillis)
  const before = list.meta.signedAt
  if (before !== null && before >= now) {
    return yield* failed(
      `${file} was signed at ${formatTimestamp(before)} and this machine's time is ${formatTimestamp(now)}: `
        + "control planes would refuse the new list as rolled back"
    )
  }
  const bytes = encodeUtf8(canonicalText(kind.encode({
    ...list,
    meta: { ...list.meta, signedAt: now, signatureAlgorithm: key.algorithm }
  })))
  const signature = yield* sign(bytes)
  const verdict = verify({
    kind: kind.artifact,
    bytes,
    signature,
    slot: { current: key, previous: null, successor: null, retireAt: null, rejectBefore: null },
    now,
    windowMs: () => 0,
    highestSignedAt: () => undefined
  })
  if (!verdict.ok) return yield* failed(`what was signed does not verify: ${verdict.detail}`)
  yield* publish([{ path: signatureFile(file), bytes: signature }, { path: file, bytes }])
  return file
})

/** Signs a published list anew before it grows stale, when there is one. */
export const refreshList = Effect.fnUntraced(function*<A extends Signed>(
  kind: ListKind<A>,
  directory: string,
  signing: Signing
) {
  const list = yield* readList(kind, directory)
  return list === undefined ? undefined : yield* publishList(kind, directory, list, signing)
})
