/** `nixfleet why` on real processes: one host on its way to two releases, and what is said of it at each step. */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Explanation } from "../../src/Schema/OperatorViews.ts"
import { Certificates } from "../support/certificates.ts"
import { runCommand } from "../support/command.ts"
import { eventuallyIs, makeFleet } from "../support/fleet.ts"
import { slowSource } from "../support/slowSource.ts"

vi.setConfig({ testTimeout: 180_000 })

const operatorMain = join(import.meta.dirname, "../../src/Operator/Main.ts")
const nobody = { tags: [], tagsAny: [], hosts: [], channel: null, all: false }
const waves = [
  { selector: { ...nobody, hosts: ["alpha"] }, soakSeconds: 1 },
  { selector: { ...nobody, all: true }, soakSeconds: 4 }
]
const decode = Schema.decodeUnknownSync(Explanation)

describe("an operator who asks why", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("is told the truth at every step of a host", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: ["alpha", "bravo"], policy: { waves } })
        const ask = (...args: ReadonlyArray<string>) =>
          runCommand(operatorMain, ["why", ...args, ...fleet.operatorFlags])
        /** Waits until it is this that bravo waits for, and asks the command then. */
        const told = Effect.fnUntraced(function*(reason: string) {
          const asked = Effect.map(fleet.asOperator("/v1/hosts/bravo/why"), (json) => decode(json))
          const found = yield* eventuallyIs(reason, asked, (one) => one.reason === reason)
          const { code, errors, out } = ask("bravo")
          assert.deepStrictEqual([code, errors], [0, ""])
          return { ...found, text: out, lines: out.split("\n") }
        })

        const [go, hold] = [fleet.at("go"), fleet.at("hold")]
        const good = yield* fleet.pack(
          "good",
          `while [ ! -e ${go} ]; do sleep 0.1; done; while [ -e ${hold} ]; do sleep 0.1; done`
        )
        const plain = yield* fleet.pack("plain", "exit 0")
        const bad = yield* fleet.pack("bad", "echo 'unit web failed' >&2; exit 1")
        const { finish, url } = yield* slowSource(fleet.at("archives"))
        yield* fleet.controlPlane
        const id = fleet.publish("01", { alpha: plain, bravo: good })

        const wave = yield* told("wave-promotion")
        assert.strictEqual(
          wave.lines[0],
          "bravo is held back: wave 1 of 2 is not complete: alpha was not activated yet"
        )
        assert.match(wave.text, /^ {2}evidence +alpha: its dispatch is ready since .*, but the host does not fetch it/m)
        assert.match(wave.text, /^ {2}cleared by +convergence of every host of wave 1$/m)

        yield* fleet.agent("alpha")
        const queued = yield* told("host-silent")
        assert.match(queued.because, /^its dispatch is ready since .*, and it was never heard by this database$/)
        assert.match(queued.text, /^ {2}cleared by +the host, when it is heard again/m)
        assert.match(queued.text, /^ {2}last heard +never$/m)

        yield* fleet.agent("bravo", { archiveSource: url })
        const fetching = yield* told("fetching")
        assert.match(
          fetching.because,
          new RegExp(`^it has accepted its dispatch and fetches ${good}: \\d+ of \\d+ kB$`)
        )

        finish()
        const switching = yield* told("switching")
        assert.match(switching.lines[0] ?? "", new RegExp(`^bravo waits: the switch to ${good} runs since `))

        writeFileSync(go, "")
        const soaking = yield* told("soaking")
        assert.match(soaking.because, new RegExp(`^it runs ${good} and soaks until `))
        assert.isAbove(soaking.earliestAt ?? 0, soaking.at)

        const there = yield* told("at-target")
        assert.match(
          there.lines[0] ?? "",
          new RegExp(`^bravo is at its target since .* \\(\\d+s ago\\): it has converged on ${good}$`)
        )
        assert.isNull(there.clearedBy)
        assert.deepStrictEqual([there.rollout?.rolloutId, there.rollout?.hostState], [id, "Converged"])

        writeFileSync(hold, "")
        const next = fleet.publish("02", { alpha: plain, bravo: bad })
        const back = yield* told("rolling-back")
        assert.match(back.because, new RegExp(`^${bad} failed at .*: its activation failed; it goes back to ${good}$`))

        rmSync(hold)
        const reverted = yield* told("host-rolled-back")
        assert.strictEqual(reverted.standing, "stopped")
        assert.match(reverted.lines[0] ?? "", /^bravo has stopped: .* failed at .*; it is back on .* since /)
        assert.include(reverted.clearedBy, `nixfleet rollout clear ${next}`)
        assert.match(ask("alpha").out, new RegExp(`^alpha is at its target since .*: it has converged on ${plain}\\n`))

        // Where the evidence sends the operator.
        assert.include(reverted.text, `\`nixfleet rollout events ${next} --json\` has what its switch wrote`)
        const events = runCommand(operatorMain, ["rollout", "events", next, "--json", ...fleet.operatorFlags])
        assert.include(events.out, "unit web failed")

        const json = ask("bravo", "--json")
        assert.strictEqual(json.code, 0)
        assert.strictEqual(decode(JSON.parse(json.out)).reason, "host-rolled-back")
        const unknown = ask("nobody")
        assert.deepStrictEqual([unknown.code, unknown.out], [1, ""])
        assert.include(unknown.errors, "the control plane knows no host nobody")
        const refused = ask("../hosts")
        assert.deepStrictEqual([refused.code, refused.out], [64, ""])
        assert.include(refused.errors, "is not a host name")
      }))
  })
})
