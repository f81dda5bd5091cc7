/**
 * Torn, truncated and overwritten files under real processes: each program starts with what is durable, or ends with 78 and one
 * sentence that says what to do. It never starts over in silence, and a host never switches because a file is damaged.
 */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { cpSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Certificates } from "../support/certificates.ts"
import { reasonOf, type Running } from "../support/controlPlaneProcess.ts"
import { eventually, eventuallyIs, makeFleet, noting, runs } from "../support/fleet.ts"

vi.setConfig({ testTimeout: 90_000 })

const host = "web-1"
const page = 4096

type Damage = (file: string) => void
const half: Damage = (file) => truncateSync(file, Math.floor(statSync(file).size / 2))
const empty: Damage = (file) => truncateSync(file, 0)
const text: Damage = (file) => writeFileSync(file, "this was a database once\n".repeat(1000))
const torn: Damage = (file) => truncateSync(file, statSync(file).size - 100)
const overwrite = (from: number, to: number, byte: number): Damage => (file) => {
  const bytes = readFileSync(file)
  writeFileSync(file, bytes.fill(byte, from, to))
}
const zeroed = overwrite(page, 2 * page, 0)
const garbled = overwrite(0, 64, 0x5a)

/** Which stored state is damaged: after an ordinary end, or as a power cut leaves it. */
type Image = "ended" | "cut"
/** `starts`, or what the sentence says besides the file. */
type Outcome = "starts" | RegExp
type Case = readonly [image: Image, file: string, name: string, damage: Damage, outcome: Outcome]

const advice = /restore it from a backup,? or (?:start with an empty one|move it away)/
const emptied = /is empty, although it was in use: .* or move it away/

const agentCases: ReadonlyArray<Case> = [
  ["ended", "journal.db", "cut in half", half, advice],
  ["ended", "journal.db", "with a zeroed page", zeroed, advice],
  ["ended", "journal.db", "that is empty", empty, emptied],
  ["ended", "journal.db", "that is another kind of file", text, advice],
  ["ended", "trust-memory.db", "cut in half", half, advice],
  ["ended", "trust-memory.db", "that is empty", empty, emptied],
  ["ended", "artifacts/stable@01", "cut in half", half, "starts"],
  ["ended", "artifacts/stable@01", "that is empty", empty, "starts"],
  ["cut", "journal.db-wal", "whose last write is torn", torn, "starts"],
  ["cut", "journal.db-wal", "whose header is overwritten", garbled, emptied],
  ["cut", "journal.db-wal", "that is empty", empty, emptied]
]

const controlPlaneCases: ReadonlyArray<Case> = [
  ["ended", "journal.db", "cut in half", half, advice],
  ["ended", "journal.db", "with a zeroed page", zeroed, advice],
  ["ended", "journal.db", "that is empty", empty, emptied],
  ["ended", "trust-memory.json", "cut in half", half, /restore it from a backup/],
  ["ended", "trust-memory.json", "that is empty", empty, /restore it from a backup/],
  [
    "ended",
    "artifacts",
    "cut in half",
    (directory) => readdirSync(directory).forEach((name) => half(join(directory, name))),
    "starts"
  ],
  ["cut", "journal.db-wal", "whose last write is torn", torn, "starts"],
  ["cut", "journal.db-wal", "whose header is overwritten", garbled, emptied]
]

/** A torn write is one that was never answered: its agent sends it again. */
const durable = new Set<string | undefined>(["Soaking", "Converged"])

const endsWith78 = Effect.fnUntraced(
  function*(program: Running, [, file, name]: Case, directory: string, outcome: RegExp) {
    yield* eventually(`78 for ${file} ${name}`, () => program.process.exitCode !== null || program.log.at(-1), 15)
    const { code } = yield* program.ended
    const sentence = program.errors()
    assert.strictEqual(code, 78, sentence)
    assert.include(sentence, join(directory, file.replace(/-wal$/, "")))
    assert.match(sentence, outcome)
    assert.notMatch(sentence, /\n +at /, "a sentence, no stack")
  }
)

describe("damaged state", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("is healed or refused with what to do, and never leads to a switch", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const note = fleet.at("runs")
        const closure = yield* fleet.pack("r1", noting(note))
        const controlPlane = yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        const id = fleet.publish("01", { [host]: closure })
        yield* eventually("convergence", () =>
          fleet.record(host, id)?.state === "Converged" ||
          [agent.errors(), controlPlane.errors(), agent.log.slice(-4), controlPlane.log.slice(-4)], 20)
        yield* eventually("delivery", () => fleet.events(host).every(({ delivery }) => delivery === "delivered"))
        yield* fleet.end(agent, "SIGKILL")
        yield* fleet.end(controlPlane, "SIGKILL")
        const places = { agent: fleet.at("state", host), controlPlane: fleet.at("control-plane") }
        const image = (name: keyof typeof places, kind: Image) => fleet.at(`${name}.${kind}`)
        const keep = (kind: Image) => {
          for (const name of ["agent", "controlPlane"] as const) {
            cpSync(places[name], image(name, kind), { recursive: true })
          }
        }
        keep("cut")
        const again = [yield* fleet.controlPlane, yield* fleet.agent(host)]
        const heard = Date.now()
        yield* eventuallyIs("the agent again", fleet.hosts, ([entry]) => (entry?.lastCheckinAt ?? 0) > heard, 15)
        for (const program of again.toReversed()) yield* fleet.end(program, "SIGTERM")
        keep("ended")

        const damaged = (name: keyof typeof places, [kind, file, , damage]: Case) => {
          rmSync(places[name], { recursive: true })
          cpSync(image(name, kind), places[name], { recursive: true, preserveTimestamps: true })
          damage(join(places[name], file))
        }
        for (const one of agentCases) {
          const outcome = one[4]
          damaged("agent", one)
          const program = yield* fleet.agent(host)
          if (outcome !== "starts") {
            yield* endsWith78(program, one, places.agent, outcome)
            continue
          }
          yield* eventually(
            `a start with ${one.slice(1, 3).join(" ")}`,
            () => program.log.some((line) => reasonOf(line) === "control-plane-unreachable") || program.errors(),
            15
          )
          assert.strictEqual(fleet.record(host, id)?.state, "Converged", one.slice(0, 3).join(" "))
          yield* fleet.end(program, "SIGKILL")
        }
        for (const one of controlPlaneCases) {
          const outcome = one[4]
          damaged("controlPlane", one)
          if (outcome === "starts") {
            const program = yield* fleet.controlPlane
            yield* eventuallyIs(
              one.slice(1, 3).join(" "),
              fleet.states(id),
              (states) => durable.has(states[host]),
              15
            )
            yield* fleet.end(program, "SIGKILL")
          } else {
            const program = yield* fleet.startControlPlane
            yield* endsWith78(program, one, places.controlPlane, outcome)
          }
        }

        // A log that ends early without saying so: the host knows less than it did, and still switches to nothing.
        damaged("agent", ["cut", "journal.db-wal", "", overwrite(40 * page, 44 * page, 0), "starts"])
        damaged("controlPlane", ["ended", "journal.db", "", () => {}, "starts"])
        yield* fleet.controlPlane
        const older = yield* fleet.agent(host)
        const next = yield* fleet.pack("r2", noting(note))
        const second = fleet.publish("02", { [host]: next })
        yield* eventually(
          "the next release",
          () => fleet.record(host, second)?.state === "Converged" || older.log.slice(-3),
          25
        )
        assert.deepStrictEqual(runs(note).map((path) => path.replace(/^.*-/, "")), ["r1", "r2"])
        assert.isNull(older.process.exitCode)
      }))
  })
})
