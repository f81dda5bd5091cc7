/**
 * How the operator's command reaches the control plane (control-plane.md §10): each option once, with its flag, environment
 * name and key in the configuration file. `Schema/Options.ts` gathers the values.
 */
import { Schema } from "effect"
import { optionsFor, type OptionTable } from "./Options.ts"

/** Names a configuration file; `--config` wins over it. */
export const configFileEnv = "NIXFLEET_CONFIG"

/** Below the user's configuration directory; may be missing. */
export const defaultConfigFile = "nixfleet/config.json"

const path = Schema.String.check(Schema.isPattern(/^[^\0]+$/, { message: "expected a path" }))
const url = Schema.String.check(
  Schema.isPattern(/^https:\/\/(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]{0,4})?\/?$/, {
    message: "expected https://host or https://host:port, without a path"
  })
)

const { required } = optionsFor("NIXFLEET_")

export const connectionOptions = {
  cpUrl: required("cpUrl", url, "Address of the control plane"),
  caCert: required("caCert", path, "Certificate of the authority that the control plane's own one comes from"),
  clientCert: required("clientCert", path, "Operator's certificate"),
  clientKey: required("clientKey", path, "Its private key")
}

export const ConnectionConfig = Schema.Struct({ cpUrl: url, caCert: path, clientCert: path, clientKey: path })
export type ConnectionConfig = typeof ConnectionConfig.Type

export const connectionTable: OptionTable<ConnectionConfig> = { options: connectionOptions, schema: ConnectionConfig }
