/**
 * The executable as a process: from its start to its first log line, and its memory while it waits for work. The floor of the
 * start is `node empty.cjs` to its end, with the Node that the executable is made of.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { copyFileSync, readFileSync, writeFileSync } from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { Certificates } from "../../test/support/certificates.ts"
import { launch } from "../../test/support/controlPlaneProcess.ts"
import { buildExecutable } from "../../test/support/executable.ts"
import { eventually, makeFleet } from "../../test/support/fleet.ts"
import { inDirectory } from "../support/directory.ts"
import { inTurns, type Row, rowOf, shown } from "../support/figures.ts"
import { type Footprint, footprintOf, forget } from "../support/processes.ts"

const rounds = 15
const host = "web-1"
/** How long an agent is idle before it is looked at, ms. */
const idleMs = 10_000

/** Milliseconds from the start of a process to its first output, or to its end when it says nothing. */
const untilFirstWord = (command: string, args: ReadonlyArray<string>): Promise<number> =>
  new Promise((resolve, reject) => {
    const begin = performance.now()
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"], env: {} })
    let took: number | undefined
    child.stdout.once("data", () => {
      took = performance.now() - begin
      child.kill("SIGKILL")
    })
    child.once("error", reject)
    child.once("close", () => resolve(took ?? performance.now() - begin))
  })

/** What the same process has before and after its first rollout, and what bare Node has that holds one poll. */
interface Idle {
  readonly before: Footprint
  readonly after: Footprint
  readonly floor: Footprint
}

const absolute = (measure: "rss" | "anonymous", what: string, limit: number, { after, before, floor }: Idle): Row => ({
  what,
  goal: { at: "most", ratio: 1 },
  ratio: before[measure] / limit,
  spread: [before[measure] / limit, before[measure] / limit],
  ours: before[measure],
  floor: limit,
  unit: "MB",
  notes: [
    `the floor is the goal itself; after its first rollout the same process has ${
      shown(after[measure])
    } MB, and bare ` +
    `node:https that holds one poll has ${shown(floor[measure])} MB`
  ]
})

/** Node without its type stripping, which takes memory too. */
function plainScript(source: string, target: string): string {
  writeFileSync(target, stripTypeScriptTypes(readFileSync(source, "utf8")))
  return target
}

const idle = (file: string) =>
  Effect.gen(function*() {
    const fleet = yield* makeFleet({ hosts: [host], agentProgram: file })
    yield* fleet.controlPlane
    const agent = yield* fleet.agent(host, { heartbeatSecs: 2, drainSecs: 15, advanceSecs: 5, manifestPollSecs: 60 })
    // Without a closure there is nothing to roll out: the agent polls and beats.
    fleet.publish("00", {})
    yield* Effect.promise(() => pause(idleMs))
    const before = footprintOf(agent.process.pid ?? 0)
    const rolloutId = fleet.publish("01", { [host]: yield* fleet.pack("r1", "exit 0") })
    yield* eventually("a converged host", () => fleet.record(host, rolloutId)?.state === "Converged")
    yield* Effect.promise(() => pause(idleMs))
    const after = footprintOf(agent.process.pid ?? 0)
    yield* fleet.end(agent, "SIGTERM")
    const script = plainScript(join(import.meta.dirname, "../programs/poll.ts"), fleet.at("poll.mjs"))
    const bare = yield* launch([script, fleet.at(`${host}.json`)], {}, process.execPath)
    yield* Effect.promise(() => pause(idleMs))
    const measured: Idle = { before, after, floor: footprintOf(bare.process.pid ?? 0) }
    return measured
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer))

export const executable = () =>
  inDirectory(async (directory) => {
    // A copy, which nobody else runs, so that its pages can be forgotten.
    const file = `${directory}/nixfleet-agent`
    copyFileSync(buildExecutable().file, file)
    const empty = `${directory}/empty.cjs`
    writeFileSync(empty, "")
    const config = `${directory}/agent.json`
    writeFileSync(
      config,
      JSON.stringify({
        controlPlaneUrl: "http://127.0.0.1:9",
        insecure: true,
        machineId: host,
        trustFile: `${directory}/trust.json`,
        stateDir: `${directory}/state`,
        systemDir: `${directory}/system`,
        archiveSource: directory
      })
    )
    const pairs = await inTurns(rounds, {
      ours: () => untilFirstWord(file, ["run", "--config", config]),
      floor: () => untilFirstWord(process.execPath, [empty])
    })
    // A file that was written just now is in the page cache in large pieces, and more of it is resident than an agent touches.
    const forgotten = forget(file)
    const measured = await Effect.runPromise(idle(file))
    return [
      rowOf("executable: start to the first log line", { at: "most", ratio: 3.6 }, "ms", pairs),
      absolute(
        "rss",
        `executable: resident memory of an idle agent${forgotten ? "" : " (file in cache)"}`,
        72,
        measured
      ),
      absolute("anonymous", "executable: anonymous memory of an idle agent", 27, measured)
    ]
  })
