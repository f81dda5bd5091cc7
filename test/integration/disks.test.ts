/**
 * Full and read-only disks under real processes, at the points of an agent's life (D1, house rule 8): no switch forward starts,
 * the heartbeat says why, a rollback still happens, and room alone is enough to go on. Disks are small file systems.
 */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import { Certificates } from "../support/certificates.ts"
import { reasonOf, type Running } from "../support/controlPlaneProcess.ts"
import { fillDisk, freeDisk, noMounts, remount, smallDisk } from "../support/directories.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting, runs } from "../support/fleet.ts"

vi.setConfig({ testTimeout: 120_000 })

const host = "web-1"
const diskBytes = 32 * 1024 * 1024

/** Holds the answer to a request for an archive back while it is not `open`: 503. */
const archives = (directory: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; open: boolean; readonly close: () => void }>((resume) => {
      const server = createServer((request, response) => {
        if (source.open) response.end(readFileSync(join(directory, request.url ?? "")))
        else response.writeHead(503).end()
      })
      const source = { url: "", open: true, close: () => server.close() }
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        source.url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
        resume(Effect.succeed(source))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

/** A fleet of one host whose probe fails as long as a closure called `bad` runs. `places`: where its directories really are. */
const onDisks = Effect.fnUntraced(function*(places: { readonly state?: string; readonly systems: string }) {
  const fleet = yield* makeFleet({ hosts: [host] })
  mkdirSync(fleet.at("systems"))
  for (const [name, disk] of Object.entries(places)) {
    mkdirSync(join(disk, name), { mode: 0o700 })
    symlinkSync(join(disk, name), fleet.at(name, host))
  }
  const check = `case "$(readlink ${fleet.at("systems", host, "current-system")})" in *-bad*) exit 1;; esac`
  writeFileSync(
    fleet.at(`${host}.health.json`),
    JSON.stringify({ good: { kind: "exec", mode: "enforce", command: ["/bin/sh", "-c", check], intervalSeconds: 1 } })
  )
  return fleet
})

const isState = (fleet: Fleet, id: string, state: string) => () =>
  fleet.record(host, id)?.state === state || (fleet.record(host, id)?.state ?? "no record")

const says = (fleet: Fleet, what: string, reason: string | undefined) =>
  eventuallyIs(what, fleet.hosts, ([entry]) => entry?.held?.reason === reason, 20)

const told = (program: Running, reason: string) =>
  eventually(reason, () => program.log.some((line) => reasonOf(line) === reason) || program.log.at(-1), 20)

const delivered = (fleet: Fleet, id: string, state: string) =>
  eventuallyIs(`${state} at the control plane`, fleet.states(id), (states) => states[host] === state, 30)

describe.skipIf(noMounts !== undefined)("an agent whose disk is full", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("switches nothing forward at any point, says so, rolls back, and goes on when there is room", () =>
      Effect.gen(function*() {
        const disk = yield* smallDisk(diskBytes)
        const fleet = yield* onDisks({ state: disk, systems: disk })
        const note = fleet.at("runs")
        const source = yield* archives(fleet.at("archives"))
        // The failure must not come before the disk is full: `dd` would take what is freed for the rollback.
        const options = { archiveSource: source.url, sustainedFailureSecs: 3 }
        const release = Effect.fnUntraced(function*(ref: string, name: string, body = "exit 0") {
          const closure = yield* fleet.pack(name, noting(note, body))
          return { id: fleet.publish(ref, { [host]: closure }), closure }
        })
        yield* fleet.controlPlane
        const first = yield* fleet.agent(host, options)
        const r1 = yield* release("01", "r1")
        yield* eventually("the first release", isState(fleet, r1.id, "Converged"))

        // Idle; then a dispatch, whose artifacts and trust have to be written; then killed, and started again.
        fillDisk(disk)
        yield* says(fleet, "idle on a full disk", "disk-full")
        const r2 = yield* release("02", "r2")
        yield* eventually("the dispatch", isState(fleet, r2.id, "Activating"))
        yield* told(first, "disk-full")
        yield* fleet.end(first, "SIGKILL")
        fillDisk(disk)
        const agent = yield* fleet.agent(host, options)
        yield* told(agent, "disk-full")
        yield* says(fleet, "after a start on a full disk", "disk-full")
        assert.lengthOf(runs(note), 1)
        assert.strictEqual(fleet.current(host), r1.closure)
        freeDisk(disk)
        yield* eventually("what waited for room", isState(fleet, r2.id, "Converged"))
        yield* says(fleet, "nothing any more", undefined)

        // While it fetches.
        source.open = false
        const r3 = yield* release("03", "r3")
        yield* told(agent, "fetch-failed")
        fillDisk(disk)
        source.open = true
        yield* says(fleet, "while it fetches", "disk-full")
        assert.lengthOf(runs(note), 2)
        freeDisk(disk)
        yield* eventually("what was fetched", isState(fleet, r3.id, "Converged"))

        // While a switch runs: its result waits for room, and it runs once.
        const r4 = yield* release("04", "r4", "sleep 1.5")
        yield* eventually("the switch", () => runs(note).length === 4)
        fillDisk(disk)
        yield* says(fleet, "while a switch runs", "disk-full")
        yield* eventually("the end of the switch", () => fleet.current(host) === r4.closure)
        freeDisk(disk)
        yield* eventually("the result", isState(fleet, r4.id, "Converged"))

        // While it soaks, and its health demands a rollback; what it has to tell waits for delivery meanwhile.
        const bad = yield* release("05", "bad")
        yield* eventually("the soak", isState(fleet, bad.id, "Soaking"))
        fillDisk(disk)
        yield* eventually("the rollback on a full disk", isState(fleet, bad.id, "Reverted"), 40)
        assert.strictEqual(fleet.current(host), r4.closure)
        yield* delivered(fleet, bad.id, "Reverted")
        assert.deepStrictEqual(runs(note).map((path) => path.replace(/^.*-/, "")), [
          "r1",
          "r2",
          "r3",
          "r4",
          "bad",
          "r4"
        ])
        freeDisk(disk)
        yield* says(fleet, "nothing at the end", undefined)
        assert.isNull(agent.process.exitCode, "all of it without a restart")
      }))
  })
})

describe.skipIf(noMounts !== undefined)("an agent whose system disk is read-only", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("a start on it ends with 1, so that the service manager tries again, and succeeds once it can be written", () =>
      Effect.gen(function*() {
        const disk = yield* smallDisk(diskBytes)
        const fleet = yield* onDisks({ state: disk, systems: disk })
        yield* fleet.controlPlane
        const good = yield* fleet.pack("good", noting(fleet.at("runs")))
        const first = yield* fleet.agent(host)
        yield* eventually("a first release", isState(fleet, fleet.publish("01", { [host]: good }), "Converged"))
        first.process.kill("SIGTERM")
        yield* first.ended
        remount(disk, "ro")
        const second = yield* fleet.agent(host)
        assert.strictEqual((yield* second.ended).code, 1)
        remount(disk, "rw")
        yield* fleet.agent(host)
        const next = yield* fleet.pack("next", noting(fleet.at("runs")))
        yield* eventually("a second release", isState(fleet, fleet.publish("02", { [host]: next }), "Converged"))
      }))

    it.effect("switches in neither direction, spends no try, says so, and goes on when it can be written", () =>
      Effect.gen(function*() {
        const disk = yield* smallDisk(diskBytes)
        const fleet = yield* onDisks({ systems: disk })
        const note = fleet.at("runs")
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host, { sustainedFailureSecs: 1 })
        const good = yield* fleet.pack("good", noting(note))
        const r1 = fleet.publish("01", { [host]: good })
        yield* eventually("the first release", isState(fleet, r1, "Converged"))

        remount(disk, "ro")
        yield* says(fleet, "idle on a read-only disk", "disk-read-only")
        const bad = yield* fleet.pack("bad", noting(note))
        const r2 = fleet.publish("02", { [host]: bad })
        yield* told(agent, "disk-read-only")
        assert.strictEqual(fleet.record(host, r2)?.state, "Activating")
        assert.lengthOf(runs(note), 1)
        remount(disk, "rw")
        yield* eventually("the soak", isState(fleet, r2, "Soaking"))
        remount(disk, "ro")
        yield* eventually("the failure", isState(fleet, r2, "Failed"))
        yield* says(fleet, "while a rollback waits", "disk-read-only")
        const waiting = fleet.record(host, r2)
        assert.isTrue(waiting?.state === "Failed" && waiting.rollbackFailures === 0)
        assert.lengthOf(runs(note), 2)
        remount(disk, "rw")
        yield* eventually("the rollback", isState(fleet, r2, "Reverted"))
        assert.strictEqual(fleet.current(host), good)
        assert.isNull(agent.process.exitCode)
      }))
  })
})

describe.skipIf(noMounts !== undefined)("a control plane whose disk is full", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("holds what it cannot make durable, names it, and goes on when there is room", () =>
      Effect.gen(function*() {
        const disk = yield* smallDisk(diskBytes)
        const fleet = yield* makeFleet({ hosts: [host] })
        symlinkSync(disk, fleet.at("control-plane"))
        const controlPlane = yield* fleet.controlPlane
        yield* fleet.agent(host)
        const r1 = fleet.publish("01", { [host]: yield* fleet.pack("r1", "exit 0") })
        yield* eventually("the first release", isState(fleet, r1, "Converged"))
        // The reserve is enough for what is under way.
        fillDisk(disk)
        const r2 = fleet.publish("02", { [host]: yield* fleet.pack("r2", "exit 0") })
        yield* eventually("the second release", isState(fleet, r2, "Converged"))
        for (const name of readdirSync(disk).filter((entry) => entry.endsWith(".reserve"))) rmSync(join(disk, name))
        fillDisk(disk)
        const before = controlPlane.log.length
        const r3 = fleet.publish("03", { [host]: yield* fleet.pack("r3", "exit 0") })
        // Neither the trust memory nor, when a commit comes first, the journal can be written.
        const named = new Set<unknown>(["artifact-unusable", "disk-full"])
        yield* eventually("a name", () => controlPlane.log.slice(before).some((line) => named.has(reasonOf(line))), 20)
        assert.isUndefined(fleet.record(host, r3), "what is not durable is not told")
        freeDisk(disk)
        yield* eventually("the third release", isState(fleet, r3, "Converged"))
        yield* delivered(fleet, r3, "Converged")
        assert.isNull(controlPlane.process.exitCode)
      }))
  })
})
