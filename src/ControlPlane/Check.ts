/**
 * What `nixfleet-control-plane check` looks at beyond the configuration itself: the trust file and its keys, the certificates,
 * who may use its secrets, the state directory, where releases come from; with `--deep` the journal from end to end, and that its records are what its
 * event log means (house rule 2). Also while the control plane runs; changes nothing.
 */
import { Effect, Result, Struct } from "effect"
import { X509Certificate } from "node:crypto"
import { type DatabaseReader, openReader } from "../Layers/Disk/DatabaseReader.ts"
import { readSmallFile } from "../Layers/Disk/SmallFile.ts"
import {
  bad,
  commonNameOf,
  errorText,
  type Finding,
  good,
  pages,
  period,
  trust,
  unreadable,
  writable
} from "../Layers/Findings.ts"
import { ArtifactSource } from "../Layers/Net/ArtifactSource.ts"
import { openTlsIdentity } from "../Layers/Net/TlsIdentity.ts"
import { exposedSecrets } from "../Layers/SecretFiles.ts"
import type { ControlPlaneConfig } from "../Schema/ControlPlaneConfig.ts"
import type { Gathered } from "../Schema/Options.ts"
import { disagreements } from "./Disagreements.ts"
import { foldLog } from "./Fold.ts"
import { Touched } from "./fold/Touched.ts"
import { loadIssuer, signingKey } from "./Issuance.ts"
import { allRows, journalMigrations } from "./Journal.ts"
import { load } from "./journal/Load.ts"
import { meta } from "./journal/Tables.ts"
import { defaultLimits } from "./Limits.ts"
import type { State } from "./State.ts"

type Where = (name: keyof ControlPlaneConfig) => string

const identity = Effect.fnUntraced(function*({ clientCa, tlsCert, tlsKey }: ControlPlaneConfig, where: Where) {
  const opened = yield* Effect.result(openTlsIdentity({ ca: clientCa, cert: tlsCert, key: tlsKey }))
  if (Result.isFailure(opened)) return [bad(where("tlsCert"), opened.failure.message)]
  const { ca, cert } = yield* opened.success.current
  return [
    good(where("clientCa"), `${clientCa}: authorities of hosts and operators`),
    yield* period(ca, where("clientCa")),
    ...(cert === undefined ? [] : [
      good(where("tlsCert"), `certificate of ${commonNameOf(cert) || "this server"}`),
      yield* period(cert, where("tlsCert"))
    ])
  ]
})

/** The files of secrets that others may use: with any of them the control plane does not start. */
export const exposed = ({ config, sourceOf }: Gathered<ControlPlaneConfig>) => {
  const secrets = {
    tlsKey: "this server's private key",
    issuanceCaKey: "the authority's private key",
    releasesTokenFile: "the token for the releases"
  } as const
  return exposedSecrets(
    Struct.keys(secrets).flatMap((option) => {
      const file = config[option]
      return file === undefined ? [] : [{ file, what: secrets[option], at: sourceOf(option) }]
    })
  )
}

/** The authority that issues certificates, and whether those who have one of its certificates will be let in. */
const issuance = Effect.fnUntraced(function*(config: ControlPlaneConfig, where: Where) {
  const { clientCa, issuanceCaCert } = config
  const key = signingKey(config)
  if (issuanceCaCert === undefined || key === undefined) {
    return [good(where("issuanceCaCert"), "no authority is given: hosts are neither enrolled nor renewed here")]
  }
  const { openIssuer } = yield* loadIssuer
  const opened = yield* Effect.result(openIssuer(issuanceCaCert, key))
  if (Result.isFailure(opened)) return [bad(where("issuanceCaCert"), opened.failure.message)]
  const { authority } = opened.success
  const trusted = yield* Effect.result(Effect.try({ try: () => readSmallFile(clientCa).toString(), catch: errorText }))
  const certificates = Result.isSuccess(trusted) ? trusted.success.match(certificate) ?? [] : []
  const isTrusted = certificates.some((text) => new X509Certificate(text).fingerprint256 === authority.fingerprint256)
  return [
    isTrusted
      ? good(where("issuanceCaCert"), `${issuanceCaCert} issues certificates to hosts`)
      : bad(where("clientCa"), `${clientCa} does not have ${issuanceCaCert}: hosts that enroll here would be refused`),
    yield* period(authority.toString(), where("issuanceCaCert"))
  ]
})

const certificate = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** The fleet file is fetched, and not judged: that is the program's work, at each poll. */
const releases = Effect.fnUntraced(function*(at: string) {
  const { fetch, origin } = yield* ArtifactSource
  const fetched = yield* Effect.result(fetch("fleet.resolved.json"))
  if (Result.isSuccess(fetched)) return good(at, `${origin}: a release is published`)
  return fetched.failure.reason === "artifact-absent"
    ? good(at, `${origin}: no release is published yet`)
    : bad(at, `${origin}: ${fetched.failure.message}`)
})

/** Everything that was looked at, in the order of this file. */
export const check = Effect.fnUntraced(function*(gathered: Gathered<ControlPlaneConfig>) {
  const { config, sourceOf: where } = gathered
  const findings: ReadonlyArray<Finding> = [
    good("configuration", `listens on ${config.listen}, hosts are agent-<host>.${config.agentCnSuffix}`),
    ...yield* trust(config.trustFile, where("trustFile")),
    ...yield* identity(config, where),
    ...yield* issuance(config, where),
    ...yield* exposed(gathered),
    yield* writable(config.stateDir, where("stateDir")),
    yield* releases(where("releasesSource"))
  ]
  return findings
})

/** The state as a start of this moment would find it, and as the log means it. */
function statesOf(reader: DatabaseReader): { readonly stored: State; readonly folded: State; readonly rows: number } {
  const databaseId = meta(reader.sql, "database_id") ?? ""
  const rows = allRows(reader.sql)
  return {
    stored: load(reader.sql, databaseId, defaultLimits),
    folded: foldLog(databaseId, rows, new Touched()),
    rows: rows.length
  }
}

const records = Effect.fnUntraced(function*(reader: DatabaseReader, at: string) {
  const read = yield* Effect.result(Effect.try({ try: () => statesOf(reader), catch: errorText }))
  if (Result.isFailure(read)) return [bad(at, `${reader.file} cannot be read: ${read.failure}`)]
  const { folded, rows, stored } = read.success
  const wrong = disagreements(folded, stored)
  return wrong.length === 0
    ? [good(at, `${reader.file}: what is stored is what its ${rows} rows mean`)]
    : wrong.map((text) => bad(at, `${reader.file}: ${text}`))
})

const journal = Effect.fnUntraced(function*(stateDir: string, at: string) {
  const reader = yield* openReader(`${stateDir}/journal.db`, journalMigrations)
  if (reader === undefined) return [good(at, `no control plane ever ran on ${stateDir}`)]
  const whole = yield* pages(reader, at)
  return whole.every(({ ok }) => ok) ? [...whole, ...yield* records(reader, at)] : whole
}, Effect.scoped)

export const deepCheck = Effect.fnUntraced(function*(
  { config, sourceOf }: Gathered<ControlPlaneConfig>
): Effect.fn.Return<ReadonlyArray<Finding>> {
  const at = sourceOf("stateDir")
  return yield* journal(config.stateDir, at).pipe(Effect.catch((error) => Effect.succeed(unreadable(at)(error))))
})
