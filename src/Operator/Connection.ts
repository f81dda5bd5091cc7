/**
 * The operator's connection to the control plane: gathers its configuration (flag > environment > file), opens mutual TLS,
 * reads views. A refusal is told with what the control plane said about it.
 */
import { Effect, FileSystem, Layer, Option, Path, Result, Schema } from "effect"
import { configFlag, givenFlags, optionFlags, unusable } from "../Layers/CommandLine.ts"
import { readConfigFile } from "../Layers/ConfigFile.ts"
import { Exchange, type ExchangeError } from "../Layers/Net/Exchange.ts"
import * as TlsClient from "../Layers/Net/TlsClient.ts"
import { configFileEnv, connectionOptions, connectionTable, defaultConfigFile } from "../Schema/ConnectionConfig.ts"
import { ActionRefused } from "../Schema/Interventions.ts"
import { gatherOptions } from "../Schema/Options.ts"
import { protocolHeader, protocolVersion } from "../Schema/Wire.ts"
import { Environment } from "./Environment.ts"
import { configError, failed } from "./Failure.ts"
import { printable } from "./Table.ts"

/** Flags of every command that talks to the control plane. */
export const connectionFlags = { config: configFlag(configFileEnv), connection: optionFlags(connectionOptions) }

export interface ConnectionFlags {
  readonly config: Option.Option<string>
  readonly connection: Readonly<Record<string, Option.Option<string | boolean>>>
}

/** The view of the largest fleet, and how long it may take. */
const requestOptions = { timeoutMs: 30_000, maxBodyBytes: 64 * 1_048_576, lane: "report" } as const

/** Characters shown of an answer that is no view. */
const shownLength = 300

/** The exchange with the control plane that flags, environment and file name. */
export const connect = (flags: ConnectionFlags) =>
  Layer.unwrap(
    Effect.map(gatherConnection(flags), ({ caCert, clientCert, clientKey, cpUrl }) =>
      TlsClient.layer({ baseUrl: cpUrl, caFile: caCert, certFile: clientCert, keyFile: clientKey, insecure: false })
        .pipe(
          Layer.catch((error) =>
            Layer.effect(Exchange, Effect.fail(configError(error.message)))
          )
        ))
  )

/** Whether a control plane was named anywhere; that it was named rightly is for `connect`. */
export const isConfigured = Effect.fnUntraced(function*(flags: ConnectionFlags) {
  const environment = yield* Environment
  const isGiven = Object.values(flags.connection).some(Option.isSome) ||
    Object.values(connectionOptions).some(({ env }) => environment[env] !== undefined)
  return isGiven || (yield* configFile(flags, environment)) !== undefined
})

const configFile = Effect.fnUntraced(
  function*(flags: ConnectionFlags, environment: Readonly<Record<string, string | undefined>>) {
    const named = Option.getOrUndefined(flags.config) ?? environment[configFileEnv]
    return named ?? (yield* existingDefault(environment))
  }
)

const gatherConnection = Effect.fnUntraced(function*(flags: ConnectionFlags) {
  const environment = yield* Environment
  const file = yield* configFile(flags, environment)
  const gathered = gatherOptions(connectionTable, {
    flags: givenFlags(flags.connection),
    environment,
    file: file === undefined ? undefined : yield* readConfigFile(file)
  }, () => [])
  return Result.isFailure(gathered) ? yield* unusable(gathered.failure) : gathered.success.config
})

/** The file in the user's configuration directory, when there is one. */
const existingDefault = Effect.fnUntraced(function*(environment: Readonly<Record<string, string | undefined>>) {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const home = environment["HOME"]
  const base = environment["XDG_CONFIG_HOME"] ?? (home === undefined ? undefined : paths.join(home, ".config"))
  if (base === undefined) return undefined
  const file = paths.join(base, defaultConfigFile)
  return (yield* Effect.orElseSucceed(fs.exists(file), () => true)) ? file : undefined
})

/** Why there is no view; `unavailable` may be over soon: a control plane that restarts, or cannot be reached now. */
export class NoView extends Schema.TaggedError<NoView>()("NoView", {
  kind: Schema.Literals(["unavailable", "absent", "refused"]),
  message: Schema.String
}) {}

/** Statuses of a control plane, or of what stands before it, that is not there at present. */
const unavailable: ReadonlySet<number> = new Set([429, 502, 503, 504])

function kindOf(status: number): NoView["kind"] {
  return unavailable.has(status) ? "unavailable" : status === 404 ? "absent" : "refused"
}

/** With these an action is answered with a sentence for whoever asked. */
const answersAction: ReadonlySet<number> = new Set([404, 409, 422])
const decodeSentence = Schema.decodeUnknownOption(Schema.fromJsonString(ActionRefused))

/** What the control plane answers to a request that it does not serve. */
function refusal(path: string, status: number, body: string): string {
  const sentence = answersAction.has(status) ? decodeSentence(body) : Option.none()
  if (Option.isSome(sentence)) return printable(`${sentence.value.error} (${sentence.value.reason})`)
  const said = body.trim() === "" ? "" : `: ${printable(body.trim().slice(0, shownLength))}`
  switch (status) {
    case 401:
    case 403:
      return `${path}: the control plane refuses this certificate (${status})${said}`
    case 404:
      return `${path}: there is no such thing (404)${said}`
    case 503:
      return `${path}: the control plane is not ready (503)${said}`
    default:
      return `${path}: the control plane answered ${status}${said}`
  }
}

/** What was asked may have arrived all the same. */
const lost: ReadonlySet<ExchangeError["kind"]> = new Set(["cut", "timeout", "tooLarge"])
const unknownOutcome = "whether it was done is not known: see `nixfleet actions`"

/** What the control plane answers, as it wrote it. With a body, something is asked to be done. */
const requestText = Effect.fnUntraced(function*(path: string, asked?: Schema.Json) {
  const { send } = yield* Exchange
  const headers = { accept: "application/json", [protocolHeader]: protocolVersion }
  const request = asked === undefined
    ? { method: "GET" as const, path, headers, body: new Uint8Array() }
    : {
      method: "POST" as const,
      path,
      headers: { ...headers, "content-type": "application/json" },
      body: Buffer.from(JSON.stringify(asked))
    }
  const response = yield* send(request, requestOptions).pipe(
    Effect.mapError(({ kind, message }) =>
      new NoView({
        kind: kind === "tls" || kind === "tooLarge" ? "refused" : "unavailable",
        message: asked !== undefined && lost.has(kind) ? `${message}; ${unknownOutcome}` : message
      })
    )
  )
  const body = Buffer.from(response.body).toString("utf8")
  return response.status === 200
    ? body
    : yield* new NoView({ kind: kindOf(response.status), message: refusal(path, response.status, body) })
})

/** One view, or the answer to what was asked, decoded, and its JSON as the control plane wrote it. */
export const requestView = Effect.fnUntraced(
  function*<S extends Schema.ConstraintDecoder<unknown>>(path: string, schema: S, asked?: Schema.Json) {
    const body = yield* requestText(path, asked)
    const json = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Json))(body)
    if (Result.isFailure(json)) return yield* malformed(path, "the answer is not JSON")
    const view = Schema.decodeUnknownResult(schema)(json.success)
    return Result.isFailure(view)
      ? yield* malformed(path, `the answer is not the expected view: ${printable(view.failure.message)}`)
      : { view: view.success, json: json.success }
  }
)

/** An answer that no control plane gives. */
export const malformed = (path: string, problem: string) =>
  new NoView({ kind: "refused", message: `${path}: ${problem}` })

/** For commands that ask once. */
export const readView = <S extends Schema.ConstraintDecoder<unknown>>(path: string, schema: S, asked?: Schema.Json) =>
  Effect.mapError(requestView(path, schema, asked), ({ message }) => failed(message))

/** The same for what is no view but lines. */
export const readText = (path: string) => Effect.mapError(requestText(path), ({ message }) => failed(message))
