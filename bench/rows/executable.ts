/**
 * The executable as a process: from its start to its first log line, and its memory while it waits for work. The floor of the
 * start is `node empty.cjs` to its end, with the Node that the executable is made of.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { setTimeout as pause } from "node:timers/promises"
import { Certificates } from "../../test/support/certificates.ts"
import { buildExecutable } from "../../test/support/executable.ts"
import { eventually, makeFleet } from "../../test/support/fleet.ts"
import { inDirectory } from "../support/directory.ts"
import { inTurns, type Row, rowOf, shown } from "../support/figures.ts"

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

/** Megabytes of a process, by the kernel's own words. */
function memoryOf(pid: number): { readonly rss: number; readonly anonymous: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8")
  const megabytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? Number.NaN) / 1024
  return { rss: megabytes("Rss"), anonymous: megabytes("Anonymous") }
}

const absolute = (what: string, limit: number, megabytes: number, afterRollout: number): Row => ({
  what,
  goal: { at: "most", ratio: 1 },
  ratio: megabytes / limit,
  spread: [megabytes / limit, megabytes / limit],
  ours: megabytes,
  floor: limit,
  unit: "MB",
  notes: [`the floor is the goal itself; after its first rollout the same process has ${shown(afterRollout)} MB`]
})

const idle = (file: string) =>
  Effect.gen(function*() {
    const fleet = yield* makeFleet({ hosts: [host], agentProgram: file })
    yield* fleet.controlPlane
    const agent = yield* fleet.agent(host, { heartbeatSecs: 2, drainSecs: 15, advanceSecs: 5, manifestPollSecs: 60 })
    // Without a closure there is nothing to roll out: the agent polls and beats.
    fleet.publish("00", {})
    yield* Effect.promise(() => pause(idleMs))
    const before = memoryOf(agent.process.pid ?? 0)
    const rolloutId = fleet.publish("01", { [host]: yield* fleet.pack("r1", "exit 0") })
    yield* eventually("a converged host", () => fleet.record(host, rolloutId)?.state === "Converged")
    yield* Effect.promise(() => pause(idleMs))
    return { before, after: memoryOf(agent.process.pid ?? 0) }
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer))

export const executable = () =>
  inDirectory(async (directory) => {
    const { file } = buildExecutable()
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
    const { after, before } = await Effect.runPromise(idle(file))
    return [
      rowOf("executable: start to the first log line", { at: "most", ratio: 3.6 }, "ms", pairs),
      absolute("executable: resident memory of an idle agent", 72, before.rss, after.rss),
      absolute("executable: anonymous memory of an idle agent", 27, before.anonymous, after.anonymous)
    ]
  })
