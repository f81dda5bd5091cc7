/**
 * One history of a virtual world, from a seed: three releases while everything goes wrong that may. The first is good, the
 * second is bad and must stop at the canary, the third repairs it. Faults end, and then every promise must have been kept.
 *
 * Owns what happens and when it must be over. What must hold at the end is in `Checks.ts`.
 */
import { hostIn } from "../ControlPlane/State.ts"
import type { HostStateName } from "../Schema/Wire.ts"
import { checkAll, isDrained, openBooks, readMirror } from "./Checks.ts"
import type { Dice } from "./Dice.ts"
import { calm } from "./Network.ts"
import { closureOf, rolloutIdOf } from "./Release.ts"
import type { VirtualHost } from "./VirtualHost.ts"
import { World } from "./World.ts"

export interface Outcome {
  readonly seed: number
  /** Over everything that happened; equal for two runs of one seed. */
  readonly hash: string
  /** What was promised and did not hold; empty when all did. */
  readonly problems: ReadonlyArray<string>
  readonly history: ReadonlyArray<string>
  /** Virtual milliseconds. */
  readonly lasted: number
  /** How often each kind of fault happened. */
  readonly faults: Readonly<Record<string, number>>
}

/** How often the world looks at its dice, ms. */
const tickMs = 1_000
/** How often it looks whether a chapter is over: reading the journals is most of the work. */
const lookMs = 5_000
/** How long everything goes wrong within one chapter. */
const stormMs = 3 * 60_000
/** A chapter that is not over by then is a promise that was not kept: an hour is far beyond every time-out and back-off. */
const chapterMs = 60 * 60_000
/** A bad release that has been stopped gets this long to spread all the same. */
const quarantineMs = 2 * 60_000

const soakSeconds = 20

/** How a bad release is bad. */
type Badness = "probe" | "switch"

export function play(seed: number): Outcome {
  const world = new World({ seed: String(seed), waves: [["a"], ["b", "c"], ["d"]], soakSeconds })
  const storm = new Storm(world)
  const problems: Array<string> = []
  const bad = world.dice.pick<Badness>(["probe", "switch"])
  spoil(world, bad)

  const chapter = (name: string, over: () => boolean) => {
    const began = world.timeline.now
    for (;;) {
      const elapsed = world.timeline.now - began
      if (elapsed % lookMs === 0 && over()) break
      if (elapsed > chapterMs) {
        problems.push(`${name}: not reached within ${chapterMs / 60_000} virtual minutes`)
        return
      }
      if (elapsed < stormMs) storm.blow()
      else storm.settle()
      world.pass(tickMs)
    }
    world.trace.add("world", `${name}: reached`)
  }

  world.publish(1)
  world.start()
  chapter("all hosts run r1", () => converged(world, 1))
  world.publish(2)
  chapter("the canary is back on r1 and r2 is stopped", () => stopped(world))
  pass(world, storm, quarantineMs)
  world.publish(3)
  chapter("all hosts run r3", () => converged(world, 3))
  storm.settle()
  chapter("everything has arrived", () => isDrained(openBooks(world)))

  problems.push(...checkAll(openBooks(world)), ...touched(world))
  return {
    seed,
    hash: world.trace.digest(),
    problems,
    history: world.trace.lines,
    lasted: world.timeline.now,
    faults: { ...storm.counts, ...world.network.counts }
  }
}

/** Everything that may go wrong does, now and then; how often is a matter of the seed. */
class Storm {
  readonly counts: Record<string, number> = {}
  readonly #world: World
  readonly #weather
  #blowing = false

  constructor(world: World) {
    const { dice } = world
    this.#world = world
    this.#weather = {
      lost: dice.next() * 0.06,
      answerLost: dice.next() * 0.06,
      repeated: dice.next() * 0.06,
      slow: dice.next() * 0.1,
      slowMs: dice.pick([200, 3_000, 12_000])
    }
  }

  /** One tick of bad luck. */
  blow(): void {
    const world = this.#world
    const { dice } = world
    if (!this.#blowing) world.weather = this.#weather
    this.#blowing = true
    const host = () => pickHost(world, dice)
    const machine = () => dice.chance(0.3) ? world.controlPlane : host()
    if (dice.chance(0.015)) this.#count("agent crash", () => host().machine.crash(dice.between(500, 30_000)))
    if (dice.chance(0.006)) {
      this.#count("control plane crash", () => world.controlPlane.machine.crash(dice.between(500, 60_000)))
    }
    if (dice.chance(0.02)) world.backUp()
    if (dice.chance(0.003)) this.#count("lost disk", () => world.loseDisk(dice.between(500, 60_000)))
    if (dice.chance(0.006)) this.#count("restart", () => machine().machine.restart())
    if (dice.chance(0.008)) this.#count("cut off", () => world.cutOff(host(), dice.between(5_000, 120_000)))
    if (dice.chance(0.006)) {
      this.#count("full disk", () => world.failDisk(machine(), Array(dice.between(1, 6)).fill("full")))
    }
    if (dice.chance(0.006)) {
      this.#count("commit error", () => world.failDisk(machine(), [dice.pick(["failed", "doneButError"])]))
    }
  }

  /** No new faults; those that last end by themselves. */
  settle(): void {
    if (this.#blowing) this.#world.weather = calm
    this.#blowing = false
  }

  #count(kind: string, happens: () => void): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1
    happens()
  }
}

const pickHost = ({ hosts }: World, dice: Dice): VirtualHost => {
  const host = hosts[dice.between(0, hosts.length - 1)]
  if (host === undefined) throw new Error("a world without hosts")
  return host
}

const pass = (world: World, storm: Storm, ms: number) => {
  for (let passed = 0; passed < ms; passed += tickMs) {
    storm.blow()
    world.pass(tickMs)
  }
}

/** Makes the second release bad on every host. */
function spoil(world: World, bad: Badness): void {
  const spoiled = closureOf(2)
  for (const { hardware, probes } of world.hosts) {
    if (bad === "probe") {
      probes.script = () => ({
        durationMs: 10,
        outcome: hardware.running === spoiled
          ? { status: "fail", failureReason: "status 500, expected 200" }
          : { status: "pass" }
      })
    } else {
      const { script } = hardware
      hardware.script = {
        ...script,
        switch: (closure, id) =>
          closure === spoiled
            ? { durationMs: 1_000, end: { _tag: "Exit", code: 1, stderr: "unit web failed", link: "moved" } }
            : script.switch(closure, id)
      }
    }
  }
}

/** What the control plane says of each host's record of a release. */
function mirrorStates(world: World, version: number): (host: VirtualHost) => HostStateName | undefined {
  const mirror = readMirror(world)
  return ({ name }) => hostIn(mirror, rolloutIdOf(version), name)?.record.state
}

/** All hosts run it, and the control plane knows. */
function converged(world: World, version: number): boolean {
  const closure = closureOf(version)
  if (!world.hosts.every(({ hardware }) => hardware.running === closure)) return false
  const stateOf = mirrorStates(world, version)
  return world.hosts.every((host) => stateOf(host) === "Converged")
}

const canaryOf = ({ hosts, waves }: World) => hosts.find(({ name }) => name === waves[0]?.[0])

/** The canary has tried r2, went back, and the control plane knows. */
function stopped(world: World): boolean {
  const canary = canaryOf(world)
  if (canary === undefined || canary.hardware.running !== closureOf(1)) return false
  return canary.hardware.runs.some(({ closure }) => closure === closureOf(2)) &&
    mirrorStates(world, 2)(canary) === "Reverted"
}

/** Nobody but the canary was ever touched by the bad release. */
const touched = (world: World): ReadonlyArray<string> =>
  world.hosts.filter((host) => host !== canaryOf(world)).flatMap(({ hardware, name }) =>
    hardware.runs.some(({ closure }) => closure === closureOf(2)) ? [`${name} was switched to the bad release`] : []
  )
