/** A real control plane: its own process, its own directory, TLS on a port of its choice. Facts are awaited, never slept for. */
import { Effect } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import type { Json } from "../../src/Trust/CanonicalJson.ts"
import { sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import { commit, fleetJson, manifestJson, meta, signed, trustJson } from "./artifacts.ts"
import { agentSuffix, Certificates } from "./certificates.ts"
import { temporaryDirectory } from "./directories.ts"

const main = join(import.meta.dirname, "../../src/ControlPlane/Main.ts")

/** One line of the log, as JSON. */
export type LogLine = Readonly<Record<string, unknown>>

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Running {
  readonly process: ChildProcess
  readonly log: ReadonlyArray<LogLine>
  /** Everything that was written to standard error. */
  readonly errors: () => string
  /** The first line of the log, past or to come, that satisfies the predicate; dies when the process ends without one. */
  readonly line: (matches: (line: LogLine) => boolean) => Effect.Effect<LogLine>
  readonly ended: Effect.Effect<Ended>
}

/** Runs the program with these arguments; killed with the scope. Sources run with this Node, anything else by itself. */
export const launch = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
  program: string = main
) =>
  Effect.acquireRelease(
    Effect.sync((): Running => {
      const [command, source] = program.endsWith(".ts")
        ? [process.execPath, [program]] as const
        : [program, []] as const
      const child = spawn(command, [...source, ...args], {
        env: { PATH: "", ...env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      const log: Array<LogLine> = []
      const waiting = new Set<(line: LogLine | undefined) => void>()
      let rest = ""
      let errors = ""
      child.stderr.on("data", (chunk: Buffer) => errors += chunk.toString())
      child.stdout.on("data", (chunk: Buffer) => {
        const lines = (rest + chunk.toString()).split("\n")
        rest = lines.pop() ?? ""
        for (const text of lines) {
          const line: LogLine = text.startsWith("{") ? JSON.parse(text) : { message: text }
          log.push(line)
          for (const told of waiting) told(line)
        }
      })
      const howItEnded = () =>
        [
          `${program} ended with ${child.signalCode ?? child.exitCode}: ${errors}`,
          ...log.slice(-5).map((line) => JSON.stringify(line))
        ].join("\n")
      child.on("close", () => {
        for (const told of waiting) told(undefined)
      })
      return {
        process: child,
        log,
        errors: () => errors,
        line: (matches) =>
          Effect.callback((resume) => {
            const found = log.find(matches)
            if (found !== undefined) return resume(Effect.succeed(found))
            const told = (line: LogLine | undefined) => {
              if (line !== undefined && !matches(line)) return
              waiting.delete(told)
              resume(line === undefined ? Effect.die(new Error(howItEnded())) : Effect.succeed(line))
            }
            if (child.exitCode !== null || child.signalCode !== null) told(undefined)
            else waiting.add(told)
          }),
        ended: Effect.callback((resume) => {
          if (child.exitCode !== null || child.signalCode !== null) {
            resume(Effect.succeed({ code: child.exitCode, signal: child.signalCode }))
          } else child.once("close", (code, signal) => resume(Effect.succeed({ code, signal })))
        })
      }
    }),
    ({ process: child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

export const messageOf = (line: LogLine): string => String(line["message"])

/** The `reason` of a line, when it has one. */
export const reasonOf = (line: LogLine): unknown => line["reason"]

export interface Site {
  readonly stateDir: string
  readonly releases: string
  readonly args: ReadonlyArray<string>
  readonly trustFile: string
}

/** Directories, trust file and certificates of one control plane, with short cadences. */
export const site = Effect.gen(function*() {
  const { caFile, serverFiles } = yield* Certificates
  const directory = yield* temporaryDirectory
  const releases = join(directory, "releases")
  const stateDir = join(directory, "state")
  const trustFile = join(directory, "trust.json")
  mkdirSync(join(releases, "rollouts"), { recursive: true })
  writeFileSync(trustFile, JSON.stringify(trustJson()))
  return {
    stateDir,
    releases,
    trustFile,
    args: [
      "serve",
      ...Object.entries({
        "--listen": "127.0.0.1:0",
        "--tls-cert": serverFiles.cert,
        "--tls-key": serverFiles.key,
        "--client-ca": caFile,
        "--agent-cn-suffix": agentSuffix,
        "--trust-file": trustFile,
        "--state-dir": stateDir,
        "--releases-source": releases,
        "--artifact-poll-secs": "0.1",
        "--sweep-secs": "0.1",
        "--plan-secs": "0.2"
      }).flat()
    ]
  } satisfies Site
})

/** Starts it and answers when its port is open. */
export const start = Effect.fnUntraced(function*(args: ReadonlyArray<string>) {
  const running = yield* launch(args)
  const line = yield* running.line((found) => messageOf(found).startsWith("listening on"))
  return { ...running, port: Number(/:(\d+)$/.exec(messageOf(line))?.[1]) }
})

/** Writes a release as releases are written: manifests first, and each file by a rename. */
export function publish(
  { releases }: Site,
  signedAt: number,
  change: (file: { readonly [key: string]: Json }) => { readonly [key: string]: Json } = (file) => file
): { readonly fleet: Uint8Array; readonly manifest: Uint8Array; readonly rolloutId: string } {
  const dated = { meta: meta({ signedAt: formatTimestamp(signedAt) }) }
  const fleet = signed(change(fleetJson(dated)))
  const manifest = signed(manifestJson({ ...dated, fleetResolvedHash: sha256Hex(fleet.bytes) }))
  const rolloutId = `stable@${commit}`
  for (
    const [name, { bytes, signature }] of [[`rollouts/${rolloutId}.json`, manifest], [
      "fleet.resolved.json",
      fleet
    ]] as const
  ) {
    for (const [file, content] of [[`${name}.sig`, signature], [name, bytes]] as const) {
      writeFileSync(join(releases, `${file}.new`), content)
      renameSync(join(releases, `${file}.new`), join(releases, file))
    }
  }
  return { fleet: fleet.bytes, manifest: manifest.bytes, rolloutId }
}
