/**
 * Starts and watches switches that run apart from this process: no pipe to us, result in a file. A switch survives
 * the agent's end, kill -9 included, and any later agent reads its result. How it is set apart is the launcher's
 * (`SwitchLaunch.ts`, `nix/SystemdSwitch.ts`); a switch in a mere session of its own needs `KillMode=process` in the unit of
 * the agent, otherwise the end of the unit ends the switch with it.
 *
 * Owns the directory of records; `SwitchSupervisor.ts` says which files a record has. One record is one `SwitchId` and runs
 * at most once: a second start of it changes nothing.
 *
 * Failures: `Busy`, another switch holds the host's lock; `Lost`, the record was claimed but its supervisor is gone without
 * a result, or it was never claimed. Before anything new is started, what a lost switch left running is killed.
 */
import { createHash } from "node:crypto"
import { open, readdir, readFile, rm, stat } from "node:fs/promises"
import { constants } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { GuardOrder } from "../../Schema/GuardOrder.ts"
import type { StartSwitchOutcome, SwitchId, SwitchResult } from "./Activator.ts"
import { switchScript } from "./Archive.ts"
import { errorText, makeDirectory, syncPath, unlessAbsent } from "./DurableFiles.ts"
import { carriesMark, processesWith, signalProcess } from "./Processes.ts"
import { type RecoveryPlan, recoveryProgram } from "./Recovery.ts"
import type { Launcher } from "./SwitchLaunch.ts"
import { tailText } from "./TextTail.ts"

export interface DetachedSwitchConfig {
  /** Where the records are. */
  readonly recordsDir: string
  /** The host-wide lock: the same for every agent that can switch this host. */
  readonly lockFile: string
  /** The `current-system` link. */
  readonly currentLink: string
  /** After so long the switch is ended: `TimedOut`. */
  readonly timeoutMs: number
  /** From TERM to KILL. */
  readonly graceMs: number
  /** Environment of the switch; its variables about the switch are added. */
  readonly environment: Readonly<Record<string, string>>
  /** Who moves the link: the closure's own switch, as on NixOS, or for it the supervisor. */
  readonly mover: "switch" | "supervisor"
  /** A lock of another tool that switches this host: while it is held nothing is started. */
  readonly foreignLock: string | undefined
  readonly launch: Launcher
}

/** What the supervisor runs of the closure (`SwitchSupervisor.ts`). */
export type SwitchAction = "switch" | "boot" | "activate"

/** Most bytes of what the switch wrote to stderr that a result carries. */
const stderrTailBytes = 500
const pollMs = 50
/** How long a lock whose holder is none of our unfinished switches is waited for; nothing interrupts it, shutdown included. */
const endingMs = 500
/** Beyond the grace, for the supervisor to write its result. */
const settleMs = 5_000
/** Records kept for people who look; the journal needs only those of live rollouts. */
const keptRecords = 256

/** File name of a record: readable, and unique by the hash, as a rollout id may hold any character. */
function recordName(id: SwitchId): string {
  const readable = id.rolloutId.replaceAll(/[^A-Za-z0-9@._-]/g, "_").slice(0, 80)
  const unique = createHash("sha256").update(id.rolloutId).digest("hex").slice(0, 16)
  return `${readable}.${unique}.${id.attempt}.${id.purpose}.${id.run}`
}

/** What a supervisor writes as its result, with the exit code or the number of the signal. */
const resultShape = /^(?:(exited|killed) ([0-9]{1,3})|timeout)$/

const seconds = (ms: number): string => String(ms / 1000)
const signalName = (number: number): string =>
  Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`

export class DetachedSwitches {
  readonly #config: DetachedSwitchConfig

  constructor(config: DetachedSwitchConfig) {
    this.#config = config
  }

  /** Makes the directory and deletes the oldest records beyond those kept. */
  async open(): Promise<void> {
    await makeDirectory(this.#config.recordsDir, 0o700)
    const finished = (await readdir(this.#config.recordsDir)).filter((name) => name.endsWith(".result"))
    const aged = await Promise.all(finished.map(async (name) => ({
      record: join(this.#config.recordsDir, name.slice(0, -".result".length)),
      at: (await stat(join(this.#config.recordsDir, name))).mtimeMs
    })))
    for (const { record } of aged.toSorted((a, b) => b.at - a.at).slice(keptRecords)) {
      for (const file of [".result", ".err", ".out", ".claim"]) await rm(`${record}${file}`, { force: true })
    }
  }

  /** Runs the switch of the closure at `closurePath`. Answers when it is claimed, or is not going to run. */
  async start(closurePath: string, id: SwitchId, action: SwitchAction): Promise<StartSwitchOutcome> {
    const record = this.#record(id)
    try {
      if (await this.#claimedBy(record) !== undefined) return { _tag: "Started" }
      await this.#endLostSwitches()
      return await this.#launchWhenFree(closurePath, record, action)
    } catch (error) {
      return { _tag: "Failed", detail: `starting ${closurePath}/${switchScript}: ${errorText(error)}` }
    }
  }

  async result(id: SwitchId): Promise<SwitchResult> {
    const record = this.#record(id)
    const { environment, launch } = this.#config
    const running = await this.#runningPid(record)
    // Read after the look at the process: a switch that ended in between has its result by now.
    const line = await this.#resultLine(record)
    if (line !== undefined) return this.#parse(line, await this.#stderrTail(record))
    if (running !== undefined) return { _tag: "Running" }
    if (await this.#claimedBy(record) === undefined) return { _tag: "Lost" }
    if (await launch.ending(environment)) return { _tag: "Running" }
    const late = await this.#resultLine(record)
    return late === undefined ? { _tag: "Lost" } : this.#parse(late, await this.#stderrTail(record))
  }

  /** The program that goes back without this process (`Recovery.ts`). */
  recovery(
    order: GuardOrder,
    how: Pick<RecoveryPlan, "closurePath" | "reserves" | "setProfile"> & { readonly action: SwitchAction }
  ): string {
    const { rolloutId, attempt, expected } = order
    const { action, closurePath } = how
    return recoveryProgram({
      ...how,
      forward: this.#record({ rolloutId, attempt, purpose: "forward", run: order.forwardRun }),
      backs: [order.rollbackRun, order.rollbackRun + 1].map((run) => {
        const record = this.#record({ rolloutId, attempt, purpose: "rollback", run })
        return {
          record,
          args: this.#supervisorArguments(closurePath, record, action),
          environment: this.#environment(closurePath, record)
        }
      }),
      lockFile: this.#config.lockFile,
      currentLink: this.#config.currentLink,
      expected
    })
  }

  #record(id: SwitchId): string {
    return join(this.#config.recordsDir, recordName(id))
  }

  async #claimedBy(record: string): Promise<number | undefined> {
    const text = await unlessAbsent(readFile(`${record}.claim`, "utf8"))
    return text === undefined ? undefined : Number(text)
  }

  async #runningPid(record: string): Promise<number | undefined> {
    const pid = await this.#claimedBy(record)
    return pid !== undefined && (await carriesMark(pid, markOf(record))) ? pid : undefined
  }

  async #resultLine(record: string): Promise<string | undefined> {
    return (await unlessAbsent(readFile(`${record}.result`, "utf8")))?.trim()
  }

  async #stderrTail(record: string): Promise<string> {
    const handle = await unlessAbsent(open(`${record}.err`, "r"))
    if (handle === undefined) return ""
    try {
      // Three bytes more than are shown, so that the cut can be told from a broken character.
      const { size } = await handle.stat()
      const from = Math.max(0, size - stderrTailBytes - 3)
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(stderrTailBytes + 3), 0, stderrTailBytes + 3, from)
      return tailText(buffer.subarray(0, bytesRead), stderrTailBytes)
    } finally {
      await handle.close()
    }
  }

  #parse(line: string, stderrTail: string): SwitchResult {
    const found = resultShape.exec(line)
    // Not written by a supervisor: what the switch did is unknown (house rule 8).
    if (found === null) return { _tag: "Lost" }
    const [, word, number] = found
    switch (word) {
      case "exited":
        return { _tag: "Exited", code: Number(number), stderrTail }
      case "killed":
        return { _tag: "Killed", signal: signalName(Number(number)), stderrTail }
      default:
        return { _tag: "TimedOut", stderrTail }
    }
  }

  /** Records that were claimed and have no result. */
  async #unfinished(): Promise<ReadonlyArray<string>> {
    const names = new Set(await readdir(this.#config.recordsDir))
    return [...names].filter((name) => name.endsWith(".claim")).map((name) => name.slice(0, -".claim".length))
      .filter((name) => !names.has(`${name}.result`)).map((name) => join(this.#config.recordsDir, name))
  }

  /** Kills what is left of switches whose supervisor died: two switches at once are worse than a lost one. */
  async #endLostSwitches(): Promise<void> {
    for (const record of await this.#unfinished()) {
      if (await this.#runningPid(record) !== undefined) continue
      if (await this.#resultLine(record) === undefined) await killMarked(record)
    }
  }

  #supervisorArguments(closurePath: string, record: string, action: SwitchAction): ReadonlyArray<string> {
    const { currentLink, foreignLock, graceMs, lockFile, mover, timeoutMs } = this.#config
    const limits = [seconds(timeoutMs), seconds(graceMs)]
    return [lockFile, record, ...limits, closurePath, currentLink, mover, action, foreignLock ?? ""]
  }

  #environment(closurePath: string, record: string): Readonly<Record<string, string>> {
    const { currentLink, environment } = this.#config
    return {
      ...environment,
      NIXFLEET_SWITCH: record,
      NIXFLEET_CLOSURE: closurePath,
      NIXFLEET_CURRENT_SYSTEM: currentLink
    }
  }

  /** A supervisor whose result is there holds the lock for a moment longer; that is not worth a `Busy`. */
  async #launchWhenFree(closurePath: string, record: string, action: SwitchAction): Promise<StartSwitchOutcome> {
    for (let waitedMs = 0;; waitedMs += pollMs) {
      const outcome = await this.#launch(closurePath, record, action)
      if (outcome._tag !== "Busy" || waitedMs >= endingMs || (await this.#unfinished()).length > 0) return outcome
      await sleep(pollMs)
    }
  }

  async #launch(closurePath: string, record: string, action: SwitchAction): Promise<StartSwitchOutcome> {
    const { foreignLock, graceMs, launch, lockFile, recordsDir, timeoutMs } = this.#config
    await syncPath(recordsDir)
    const answer = await launch.start({
      record,
      args: this.#supervisorArguments(closurePath, record, action),
      environment: this.#environment(closurePath, record),
      limitMs: timeoutMs + graceMs + settleMs
    })
    switch (answer) {
      case "started":
        return { _tag: "Started" }
      case "busy":
        return {
          _tag: "Busy",
          detail: `another switch holds ${lockFile}${foreignLock === undefined ? "" : ` or ${foreignLock}`}`
        }
      default:
        return { _tag: "Failed", detail: `starting ${closurePath}/${switchScript}: ${answer.replace(/^failed /, "")}` }
    }
  }
}

/** What tells the processes of a record from all others. */
const markOf = (record: string): string => `NIXFLEET_SWITCH=${record}`

/**
 * KILL to every process of the record, until none of ours is left that could start another. Throws for one that does not end,
 * as in an uninterruptible call of the kernel.
 */
async function killMarked(record: string): Promise<void> {
  const mark = markOf(record)
  for (let waitedMs = 0; waitedMs < settleMs; waitedMs += pollMs) {
    const pids = await processesWith(mark)
    const ours = await Promise.all(pids.map((pid) => carriesMark(pid, mark)))
    for (const pid of pids) signalProcess(pid, "SIGKILL")
    if (!ours.includes(true)) return
    await sleep(pollMs)
  }
  throw new Error(`what ${record} left running cannot be ended`)
}
