/** A control plane and its floor, each a process of its own, and what the kernel says of them. */
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { Certificates } from "../../test/support/certificates.ts"
import { launch, messageOf } from "../../test/support/controlPlaneProcess.ts"
import { makeFleet } from "../../test/support/fleet.ts"
import type { Credentials } from "./connection.ts"

const programs = join(import.meta.dirname, "../programs")
/** Ticks of the kernel's accounting in a second: fixed in its interface, whatever its own timer. */
const ticksPerSecond = 100

/** User and system time of a process so far, ms; in steps of 10. */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? []
  return (Number(fields[11]) + Number(fields[12])) * 1000 / ticksPerSecond
}

/** Resident memory after two collections, KB. */
export async function settledKb(pid: number): Promise<number> {
  for (let i = 0; i < 2; i++) {
    process.kill(pid, "SIGUSR2")
    await pause(1500)
  }
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN)
}

export const nameOf = (index: number) => `host-${String(index).padStart(5, "0")}`

/** What the release wants of every host. */
export const targetClosure = `${"b".repeat(40)}-new`

export interface Server {
  readonly port: number
  readonly pid: number
}

export interface World {
  readonly ours: Server
  readonly floor: Server
  readonly rolloutId: string
  /** Of the hosts `nameOf(0)` to `nameOf(hosts - 1)`. */
  readonly credentials: ReadonlyArray<Credentials>
}

/**
 * Both servers, and a release of one wave for all hosts. Nothing is dispatched before every host was heard; `rolloutId` is its
 * name, and both servers stop with the scope.
 */
export const world = Effect.fnUntraced(function*(hosts: number) {
  const { authority, caFile, serverFiles } = yield* Certificates
  const ca = readFileSync(caFile, "utf8")
  const names = Array.from({ length: hosts }, (_, index) => nameOf(index))
  const credentials: Array<Credentials> = []
  for (const name of names) {
    const { cert, key } = authority.agent(name)
    credentials.push({ ca, cert, key })
  }
  const fleet = yield* makeFleet({
    hosts: names,
    controlPlaneProgram: join(programs, "control-plane.ts"),
    controlPlane: { recoveryGraceSecs: 3600, leaseSecs: 600, planSecs: 60, artifactPollSecs: 60, heartbeatSecs: 60 },
    // Long enough that nothing ends while it is measured.
    policy: {
      waves: [{ selector: { tags: [], tagsAny: [], hosts: [], channel: null, all: true }, soakSeconds: 3600 }]
    }
  })
  const rolloutId = fleet.publish("def4567a", Object.fromEntries(names.map((name) => [name, targetClosure])))
  const ours = yield* fleet.controlPlane
  const floor = yield* launch(
    [serverFiles.cert, serverFiles.key, caFile, fleet.at("floor.db")],
    {},
    join(programs, "bare.ts")
  )
  const line = yield* floor.line((found) => messageOf(found).startsWith("listening on"))
  const built: World = {
    ours: { port: fleet.port, pid: ours.process.pid ?? 0 },
    floor: { port: Number(/:(\d+)$/.exec(messageOf(line))?.[1]), pid: floor.process.pid ?? 0 },
    rolloutId,
    credentials
  }
  return built
})
