/**
 * What the plan tells is what happens: in a world without faults the fleet does exactly what the forecast said, made from the control
 * plane's disk at the moment before (D17).
 */
import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { type Forecast, forecast, type HostForecast } from "../../src/ControlPlane/Forecast.ts"
import type { Verified, VerifiedArtifacts } from "../../src/ControlPlane/Input.ts"
import { readSnapshot, snapshotLines } from "../../src/ControlPlane/Snapshot.ts"
import { at, hostIn, type State } from "../../src/ControlPlane/State.ts"
import { healthyScript } from "../../src/Layers/Host/ActivatorMemory.ts"
import { openBooks, readMirror } from "../../src/Simulation/Checks.ts"
import { Dice } from "../../src/Simulation/Dice.ts"
import { drawOrder } from "../../src/Simulation/Order.ts"
import { rolloutIdOf } from "../../src/Simulation/Release.ts"
import { epochMs, World } from "../../src/Simulation/World.ts"
import { sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import { type ArtifactKind, fleetKind, manifestKind } from "../../src/Trust/Verify.ts"

const threeWaves = [["a"], ["b", "c", "d"], ["e", "f", "g"]]
const oneWave = [["a", "b", "c"]]
type Waves = ReadonlyArray<ReadonlyArray<string>>
const soakSeconds = 20

/** Every host takes its own time, the same each time. */
function worldOf(seed: string, waves: Waves): World {
  const order = drawOrder(new Dice(`${seed}/order`), waves)
  const world = new World({ seed, waves, soakSeconds, order })
  const dice = new Dice(`${seed}/durations`)
  for (const { hardware } of world.hosts) {
    const durationMs = dice.between(2, 40) * 1000
    hardware.script = { ...healthyScript, switch: () => ({ durationMs, end: { _tag: "Exit", code: 0 } }) }
  }
  return world
}

function artifactsOf(world: World, version: number): VerifiedArtifacts {
  const read = <A extends { readonly meta: { readonly signedAt: number | null } }>(
    kind: ArtifactKind<A>,
    name: string
  ): Verified<A> => {
    const file = world.controlPlane.releases.get(name) ?? assert.fail(`${name} is not published`)
    const decoded = kind.decode(JSON.parse(Buffer.from(file.bytes).toString()))
    if (!decoded.ok) return assert.fail(decoded.problem)
    const { value } = decoded
    return { value, ...file, hash: sha256Hex(file.bytes), signedAt: value.meta.signedAt ?? assert.fail("not signed") }
  }
  const rolloutId = rolloutIdOf(version)
  return {
    fleet: read(fleetKind, "fleet.resolved.json"),
    manifests: new Map([[rolloutId, read(manifestKind, `rollouts/${rolloutId}.json`)]])
  }
}

const isComplete = (state: State, version: number) =>
  at(state.rollouts, rolloutIdOf(version))?.record.state === "Terminal"

function passUntil(world: World, isReached: (state: State) => boolean): State {
  for (let passed = 0; passed < 3_600; passed++) {
    const state = readMirror(world)
    if (isReached(state)) return state
    world.pass(1_000)
  }
  return assert.fail("not reached within a virtual hour")
}

const mirrored = (world: World): State => {
  const text = [...snapshotLines(readMirror(world), epochMs + Math.floor(world.timeline.now))]
    .map((line) => `${JSON.stringify(line)}\n`).join("")
  const read = readSnapshot(text)
  return Result.isSuccess(read) ? read.success.state : assert.fail(read.failure)
}

/**
 * How much later or earlier a step is than it was told, ms, for each step before it that it had to wait for: half a second that a
 * forecast's whole seconds leave, and what requests and their answers take.
 */
const slackMs = 1_000

/** Compares what is still to come at `told.from` with what the control plane's records say in the end. */
function assertTold(told: Forecast, after: State, version: number, what: string): void {
  const [rollout] = told.rollouts
  if (rollout === undefined) return assert.fail(`${what}: nothing was told`)
  assert.strictEqual(rollout.state, "Terminal", what)
  const moments = [...new Set(rollout.hosts.map(({ dispatchedAt }) => dispatchedAt))]
  const near = (host: HostForecast, name: string, is: number | undefined, was: number | undefined) => {
    const slack = slackMs * (moments.indexOf(host.dispatchedAt) + 1)
    const text = `${what}: ${host.host} ${name} ${(was ?? NaN) - told.from}, told ${(is ?? NaN) - told.from}`
    assert.isTrue(is !== undefined && was !== undefined && Math.abs(is - was) <= slack, text)
  }
  const realOf = ({ host }: HostForecast) =>
    hostIn(after, rolloutIdOf(version), host) ?? assert.fail(`${host} is unknown`)
  for (const host of rollout.hosts) {
    const { leasedAt, record } = realOf(host)
    if (record.state !== "Converged") return assert.fail(`${what}: ${host.host} is ${record.state}`)
    near(host, "dispatched", host.dispatchedAt, leasedAt)
    near(host, "activated", host.activatedAt, record.activationCompletedAt)
    near(host, "converged", host.convergedAt, record.convergedAt)
  }
  const dispatched = (host: HostForecast) => realOf(host).leasedAt ?? 0
  for (const [index, host] of rollout.hosts.entries()) {
    for (const later of rollout.hosts.slice(index + 1)) {
      if (later.dispatchedAt === host.dispatchedAt) continue
      assert.isBelow(dispatched(host), dispatched(later), `${what}: ${host.host} goes before ${later.host}`)
    }
  }
}

/** When the control plane completed each wave, in order. */
function completions(world: World, version: number): ReadonlyArray<number> {
  return openBooks(world).log.flatMap(({ entry, now, rolloutId }) =>
    rolloutId !== rolloutIdOf(version) || entry.kind !== "rollout_event" ||
      (entry.payload.event === "WaveAdvanced" && entry.payload.fromWave === entry.payload.toWave)
      ? []
      : [now]
  )
}

const settled = (seed: string, waves: Waves): World => {
  const world = worldOf(seed, waves)
  world.publish(1)
  world.start()
  passUntil(world, (state) => isComplete(state, 1))
  world.pass(60_000)
  return world
}

describe("without faults the fleet does what the plan said", () => {
  for (const seed of ["1", "2", "3", "4", "5", "6"]) {
    it(`seed ${seed}: of a release before it is published, and in the middle of it`, () => {
      const world = settled(seed, threeWaves)
      const before = mirrored(world)
      world.publish(2)
      const release = artifactsOf(world, 2)

      world.pass(new Dice(`${seed}/middle`).between(100_000, 200_000))
      const middle = forecast(mirrored(world), release, epochMs + Math.floor(world.timeline.now))
      const after = passUntil(world, (state) => isComplete(state, 2))
      const told = forecast(before, release, at(after.rollouts, rolloutIdOf(2))?.record.openedAt ?? 0)
      assertTold(told, after, 2, "before")
      assertTold(middle, after, 2, "in the middle")
      const waveEnds = told.rollouts[0]?.waves.map(({ completeAt }) => completeAt ?? NaN) ?? []
      for (const [index, end] of completions(world, 2).entries()) {
        assert.approximately(end, waveEnds[index] ?? NaN, slackMs * world.hosts.length, `wave ${index + 1}`)
      }
    })
  }

  for (const [seed, waves] of [["1", threeWaves], ["2", oneWave], ["3", threeWaves], ["4", oneWave]] as const) {
    it(`seed ${seed}: of a release that comes while another one rolls`, () => {
      const world = settled(seed, waves)
      world.publish(2)
      passUntil(world, (state) => at(state.rollouts, rolloutIdOf(2)) !== undefined)
      world.publish(3)
      const release = artifactsOf(world, 3)
      // To the last second in which it is not in force yet.
      let before = mirrored(world)
      passUntil(world, (state) => {
        if (at(state.rollouts, rolloutIdOf(3)) !== undefined) return true
        before = mirrored(world)
        return false
      })
      const after = passUntil(world, (state) => isComplete(state, 3))
      const opened = at(after.rollouts, rolloutIdOf(3))?.record.openedAt ?? 0
      assertTold(forecast(before, release, opened), after, 3, "superseding")
    })
  }
})
