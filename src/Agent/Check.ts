/**
 * What `nixfleet-agent check` looks at beyond the configuration itself: the trust file and its keys, the certificate, the
 * directories, the health checks. Everything is looked at, whatever was wrong before it, and what is right is said too.
 *
 * Changes nothing on the host. Owns no rules: each is asked of the code that the agent runs with.
 */
import { Clock, Effect, FileSystem, Option, Result } from "effect"
import { X509Certificate } from "node:crypto"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import { Probes } from "../Layers/Host/Probes.ts"
import { openTlsIdentity } from "../Layers/Net/TlsIdentity.ts"
import type { AgentConfig, AgentOptionName } from "../Schema/AgentConfig.ts"
import type { Gathered } from "../Schema/Options.ts"
import { formatTimestamp } from "../Schema/Primitives.ts"
import { activeKeys, keyProblems, readTrustRoots } from "../Trust/Keys.ts"

/** One thing that was looked at. `at`: the source of the option that named it. */
export interface Finding {
  readonly ok: boolean
  readonly at: string
  readonly text: string
}

type Where = (name: AgentOptionName) => string

const good = (at: string, text: string): Finding => ({ ok: true, at, text })
const bad = (at: string, text: string): Finding => ({ ok: false, at, text })

const trust = Effect.fnUntraced(function*(config: AgentConfig, where: Where) {
  const at = where("trustFile")
  const read = yield* Effect.result((yield* TrustFile).read)
  if (Result.isFailure(read)) return [bad(at, read.failure.message)]
  const roots = readTrustRoots(read.success)
  if (!roots.ok) return [bad(at, `${config.trustFile}: ${roots.problem}`)]
  const slot = roots.value.ciReleaseKey
  const active = activeKeys(slot, Math.floor(yield* Clock.currentTimeMillis))
  const problems = keyProblems(slot).map((problem) => bad(at, `${config.trustFile}: ciReleaseKey.${problem}`))
  if (active.length === 0) return [...problems, bad(at, `${config.trustFile}: no release key is active now`)]
  return problems.length > 0
    ? problems
    : [good(at, `${config.trustFile}: release keys ${active.map(({ place }) => place).join(", ")}`)]
})

/** The name that a certificate gives this host: `agent-<machine id>.<suffix>`, or the machine id itself (control-plane.md §2.1). */
function namesHost(commonName: string, machineId: string): boolean {
  return commonName === machineId || commonName.startsWith(`agent-${machineId}.`)
}

function certificateFindings(pem: string, config: AgentConfig, at: string, now: number): ReadonlyArray<Finding> {
  const certificate = new X509Certificate(pem)
  const commonName = /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? ""
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
  const name = namesHost(commonName, config.machineId)
    ? good(at, `certificate of ${commonName}`)
    : bad(at, `the certificate names ${commonName || "nobody"}, this host is ${config.machineId}`)
  const period = `${formatTimestamp(from)} to ${formatTimestamp(to)}`
  const valid = from <= now && now <= to
    ? good(at, `certificate valid from ${period}`)
    : bad(at, `the certificate is only valid from ${period}`)
  return [name, valid]
}

const identity = Effect.fnUntraced(function*(config: AgentConfig, where: Where) {
  const { caCert, clientCert, clientKey, controlPlaneUrl } = config
  if (controlPlaneUrl.startsWith("http://")) return [good(where("insecure"), "plain http: no certificate is used")]
  if (caCert === undefined) return []
  const opened = yield* Effect.result(openTlsIdentity({ ca: caCert, cert: clientCert, key: clientKey }))
  if (Result.isFailure(opened)) {
    return [bad(where(clientCert === undefined ? "caCert" : "clientCert"), opened.failure.message)]
  }
  const authorities = good(where("caCert"), `${caCert}: authorities of the control plane`)
  const { cert } = yield* opened.success.current
  if (cert === undefined) {
    return [authorities, bad("flag --client-cert", "no client certificate: the control plane will answer 401")]
  }
  const now = yield* Clock.currentTimeMillis
  return [authorities, ...certificateFindings(cert, config, where("clientCert"), now)]
})

/** Write permission of group and others. */
const foreignWrite = 0o022

/** A directory that the agent makes when it is missing: it, or the nearest one above it, must take files. */
const writable = Effect.fnUntraced(function*(directory: string, at: string) {
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

const archives = Effect.fnUntraced(function*({ archiveSource }: AgentConfig, where: Where) {
  const at = where("archiveSource")
  if (!archiveSource.startsWith("/")) return good(at, `closures come from ${archiveSource}`)
  const fs = yield* FileSystem.FileSystem
  const read = yield* Effect.result(fs.readDirectory(archiveSource))
  return Result.isSuccess(read)
    ? good(at, `closures come from ${archiveSource}`)
    : bad(at, `${archiveSource} cannot be listed`)
})

const healthChecks = Effect.fnUntraced(function*(config: AgentConfig, where: Where) {
  const at = where("healthChecksFile")
  const declared = yield* (yield* Probes).declared
  return declared._tag === "Invalid"
    ? bad(at, declared.problem)
    : good(at, `${config.healthChecksFile}: ${Object.keys(declared.checks).length} health checks`)
})

/** Everything that was looked at, in the order of this file. */
export const check = Effect.fnUntraced(function*({ config, sourceOf }: Gathered<AgentConfig>) {
  const where: Where = sourceOf
  const findings: ReadonlyArray<Finding> = [
    good("configuration", `host ${config.machineId}, control plane ${config.controlPlaneUrl}`),
    ...yield* trust(config, where),
    ...yield* identity(config, where),
    yield* writable(config.stateDir, where("stateDir")),
    yield* writable(config.systemDir, where("systemDir")),
    yield* archives(config, where),
    yield* healthChecks(config, where)
  ]
  return findings
})
