/**
 * The agent's configuration from its sources: `Schema/Options.ts` gathers and judges each option by itself, this file
 * knows the rules between options (D16).
 */
import type { Result } from "effect"
import { type AgentConfig, type AgentOptionName, agentTable } from "../Schema/AgentConfig.ts"
import { type ConfigProblem, type ConfigSources, type Gathered, gatherOptions, millis } from "../Schema/Options.ts"

/** One rule: what is wrong, and at which option; `undefined` when nothing is. */
type Rule = (config: AgentConfig, where: (name: AgentOptionName) => string) => [AgentOptionName, string] | undefined

const rules: ReadonlyArray<Rule> = [
  ({ clientCert, clientKey }) =>
    clientCert !== undefined && clientKey === undefined
      ? ["clientCert", "--client-cert needs --client-key: a host without a key is nobody"]
      : undefined,
  ({ clientCert, clientKey }) =>
    clientKey !== undefined && clientCert === undefined
      ? ["clientKey", "--client-key needs --client-cert: a key alone names nobody"]
      : undefined,
  ({ bootstrapTokenFile, clientCert }) =>
    bootstrapTokenFile !== undefined && clientCert === undefined
      ? [
        "bootstrapTokenFile",
        "--bootstrap-token-file needs --client-cert and --client-key: where the certificate goes"
      ]
      : undefined,
  ({ clientKey, generateKey }) =>
    generateKey && clientKey === undefined
      ? ["generateKey", "--generate-key needs --client-key: where the key goes"]
      : undefined,
  ({ controlPlaneUrl, insecure }) =>
    controlPlaneUrl.startsWith("http://") && !insecure
      ? ["controlPlaneUrl", "http:// is refused without --insecure"]
      : undefined,
  ({ caCert, controlPlaneUrl }) =>
    controlPlaneUrl.startsWith("https://") && caCert === undefined
      ? ["controlPlaneUrl", "https:// needs --ca-cert: the authorities of the operating system are never trusted"]
      : undefined,
  ({ archiveSource, driver }) =>
    driver === "archive" && archiveSource === undefined
      ? ["driver", "the archive driver needs --archive-source: it is where closures come from"]
      : undefined,
  ({ archiveSource, driver }) =>
    (driver === "nix" || driver === "darwin") && archiveSource !== undefined
      ? ["archiveSource", `the ${driver} driver takes closures from Nix's own binary caches, not from --archive-source`]
      : undefined,
  ({ pollTimeoutSecs, pollWaitSecs }, where) =>
    millis(pollTimeoutSecs) <= millis(pollWaitSecs)
      ? ["pollTimeoutSecs", `must be more than the poll's wait of ${pollWaitSecs} s (${where("pollWaitSecs")})`]
      : undefined
]

function crossCheck({ config, sourceOf }: Gathered<AgentConfig>): ReadonlyArray<ConfigProblem> {
  return rules.flatMap((rule) => {
    const broken = rule(config, sourceOf)
    return broken === undefined ? [] : [{ at: sourceOf(broken[0]), message: broken[1] }]
  })
}

/** The whole configuration, or everything that is wrong with it. */
export function gatherConfig(
  sources: ConfigSources
): Result.Result<Gathered<AgentConfig>, ReadonlyArray<ConfigProblem>> {
  return gatherOptions(agentTable, sources, crossCheck)
}
