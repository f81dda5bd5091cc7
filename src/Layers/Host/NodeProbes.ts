/**
 * `Probes` of a real host: HTTP and TCP by sockets of their own for each run, the other kinds by `ExecProbe.ts`,
 * `SystemdProbe.ts` and `EvidenceProbe.ts`, the declaration from its file, read anew each time because a switch exchanges it.
 *
 * An HTTP probe is one GET whose status must be exactly the expected one: no redirect is followed, no credentials and no
 * cookies are sent, the body is not read (A-W65). Failures are outcomes with a reason (agent.md §9.3).
 */
import { Effect, Layer } from "effect"
import { constants } from "node:fs"
import { open } from "node:fs/promises"
import { get as httpGet } from "node:http"
import { get as httpsGet } from "node:https"
import { connect } from "node:net"
import { type HealthCheck, type HealthChecksResult, readHealthChecks } from "../../Schema/HealthChecks.ts"
import { parseStrict } from "../../Trust/CanonicalJson.ts"
import { errorCode } from "../Disk/AtomicFile.ts"
import { errorText, unlessAbsent } from "./DurableFiles.ts"
import { type EvidenceConfig, runEvidence } from "./EvidenceProbe.ts"
import { runCommand } from "./ExecProbe.ts"
import { fail, inconclusive, pass, type ProbeOutcome, Probes } from "./Probes.ts"
import { failedUnits, runSystemd } from "./SystemdProbe.ts"

export interface NodeProbesConfig {
  readonly declarationFile: string
  readonly evidence: EvidenceConfig
  /** Environment of commands. */
  readonly environment: Readonly<Record<string, string>>
}

/** What a command needs to find ordinary tools, those of a NixOS system included. */
export const defaultProbeEnvironment: Readonly<Record<string, string>> = {
  PATH: "/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LANG: "C.UTF-8"
}

/** Largest declaration; a thousand probes take a tenth of it. */
const maxDeclarationBytes = 1_048_576

/** What this process lacks, and not the target. */
const ownTrouble: ReadonlySet<string | undefined> = new Set(["EAGAIN", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])

const socketError = (what: string, error: Error): ProbeOutcome =>
  ownTrouble.has(errorCode(error))
    ? inconclusive(`${what}: ${errorText(error)}`)
    : fail(`${what}: ${errorText(error)}`)

type HttpCheck = Extract<HealthCheck, { kind: "http" }>
type TcpCheck = Extract<HealthCheck, { kind: "tcp" }>

const runHttp = (check: HttpCheck): Effect.Effect<ProbeOutcome> =>
  Effect.callback<ProbeOutcome>((resume) => {
    const get = check.url.startsWith("https:") ? httpsGet : httpGet
    const request = get(check.url, { agent: false, headers: { "user-agent": "nixfleet-agent" } })
    request.on("response", ({ statusCode }) => {
      const answered = `GET ${check.url} answered ${statusCode}, expected ${check.expectStatus}`
      resume(Effect.succeed(statusCode === check.expectStatus ? pass : fail(answered)))
      request.destroy()
    })
    request.on("error", (error) => resume(Effect.succeed(socketError(`GET ${check.url}`, error))))
    return Effect.sync(() => request.destroy())
  }).pipe(Effect.timeoutOrElse({
    duration: check.timeoutSecs * 1000,
    orElse: () => Effect.succeed(fail(`GET ${check.url}: timed out after ${check.timeoutSecs} s`))
  }))

const runTcp = (check: TcpCheck): Effect.Effect<ProbeOutcome> => {
  const address = `${check.host} port ${check.port}`
  return Effect.callback<ProbeOutcome>((resume) => {
    const socket = connect({ host: check.host, port: check.port })
    socket.on("connect", () => {
      resume(Effect.succeed(pass))
      socket.destroy()
    })
    socket.on("error", (error) => resume(Effect.succeed(socketError(`connecting to ${address}`, error))))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutOrElse({
    duration: check.connectTimeoutSecs * 1000,
    orElse: () => Effect.succeed(fail(`connecting to ${address}: timed out after ${check.connectTimeoutSecs} s`))
  }))
}

/** At most `maxDeclarationBytes` and one more, so that a larger file is known without being read. */
async function readBounded(file: string): Promise<Uint8Array | undefined> {
  // Without O_NONBLOCK a fifo of that name would block a thread for ever.
  const handle = await unlessAbsent(open(file, constants.O_RDONLY | constants.O_NONBLOCK))
  if (handle === undefined) return undefined
  try {
    if (!(await handle.stat()).isFile()) throw new Error("not a regular file")
    const chunks: Array<Buffer> = []
    let bytes = 0
    while (bytes <= maxDeclarationBytes) {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(65_536), 0, 65_536, null)
      if (bytesRead === 0) break
      bytes += bytesRead
      chunks.push(buffer.subarray(0, bytesRead))
    }
    return Buffer.concat(chunks)
  } finally {
    await handle.close()
  }
}

function declaredBy(file: string, bytes: Uint8Array | undefined): HealthChecksResult {
  if (bytes === undefined) return { _tag: "Declared", checks: {} }
  const invalid = (problem: string): HealthChecksResult => ({ _tag: "Invalid", problem: `${file}: ${problem}` })
  if (bytes.length > maxDeclarationBytes) return invalid(`larger than ${maxDeclarationBytes} bytes`)
  const parsed = parseStrict(bytes)
  if (!parsed.ok) return invalid(`not JSON: ${parsed.problem.detail}`)
  const read = readHealthChecks(parsed.value)
  return read._tag === "Invalid" ? invalid(read.problem) : read
}

const declared = (file: string): Effect.Effect<HealthChecksResult> =>
  Effect.tryPromise({ try: () => readBounded(file), catch: errorText }).pipe(
    Effect.map((bytes) => declaredBy(file, bytes)),
    Effect.catch((problem) => Effect.succeed<HealthChecksResult>({ _tag: "Invalid", problem: `${file}: ${problem}` }))
  )

export const layer = (config: NodeProbesConfig): Layer.Layer<Probes> => {
  const run = (check: HealthCheck): Effect.Effect<ProbeOutcome> => {
    switch (check.kind) {
      case "http":
        return runHttp(check)
      case "tcp":
        return runTcp(check)
      case "exec":
        return runCommand(check.command, check.timeoutSecs, config.environment)
      case "systemd":
        return runSystemd(check, config.environment)
      case "evidence":
        return runEvidence(check, config.evidence)
    }
  }
  return Layer.succeed(
    Probes,
    Probes.of({
      declared: declared(config.declarationFile),
      // A check that the platform cannot even begin (a path that is no path) must not end the worker.
      run: (check) =>
        Effect.suspend(() => run(check)).pipe(
          Effect.catchDefect((defect) => Effect.succeed(inconclusive(`could not be run: ${errorText(defect)}`)))
        ),
      failedUnits: failedUnits(config.environment)
    })
  )
}
