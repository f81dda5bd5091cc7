/**
 * What `nixfleet-agent check` looks at beyond the configuration itself: the trust file and its keys, the certificate, the
 * directories, the health checks; `DeepCheck.ts` goes on from here. Changes nothing on the host.
 */
import { Effect, Result } from "effect"
import { bad, commonNameOf, type Finding, good, period, trust, writable } from "../Layers/Findings.ts"
import { Probes } from "../Layers/Host/Probes.ts"
import { openTlsIdentity } from "../Layers/Net/TlsIdentity.ts"
import type { AgentConfig, AgentOptionName } from "../Schema/AgentConfig.ts"
import { namesHost } from "../Schema/Identity.ts"
import type { Gathered } from "../Schema/Options.ts"
import { hostDriver } from "./HostDriver.ts"

type Where = (name: AgentOptionName) => string

const identity = Effect.fnUntraced(function*(config: AgentConfig, where: Where) {
  const { caCert, clientCert, clientKey, controlPlaneUrl, machineId } = config
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
  const at = where("clientCert")
  const commonName = commonNameOf(cert)
  const name = namesHost(commonName, machineId)
    ? good(at, `certificate of ${commonName}`)
    : bad(at, `the certificate names ${commonName || "nobody"}, this host is ${machineId}`)
  return [authorities, name, yield* period(cert, at)]
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
    ...yield* trust(config.trustFile, where("trustFile")),
    ...yield* identity(config, where),
    yield* writable(config.stateDir, where("stateDir")),
    ...yield* hostDriver(config).findings(where),
    yield* healthChecks(config, where)
  ]
  return findings
})
