/**
 * One history of a virtual world, from a seed: three releases while everything goes wrong that may. The first is good, the
 * second is bad and must stop at the canary, the third repairs it. Faults end, and then every promise must have been kept.
 *
 * Owns what happens and when it must be over. What must hold at the end is in `Checks.ts`.
 */
import { hostIn } from "../ControlPlane/State.ts"
import { fail, pass as passes } from "../Layers/Host/Probes.ts"
import type { HostStateName } from "../Schema/Wire.ts"
import { checkAll, isDrained, openBooks, readMirror } from "./Checks.ts"
import { Dice } from "./Dice.ts"
import { calm } from "./Network.ts"
import { Operators, operatorsDisobeyed } from "./Operators.ts"
import { drawOrder, orderBroken } from "./Order.ts"
import { closureOf, rolloutIdOf } from "./Release.ts"
import { revocationsDisobeyed } from "./Revocations.ts"
import type { VirtualHost } from "./VirtualHost.ts"
import { epochMs, World } from "./World.ts"

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
  /** How often operators did each thing. */
  readonly actions: Readonly<Record<string, number>>
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
type Badness = "probe" | "switch" | "unit"

/** `watch` sees every state that a tick ends in, and changes nothing. */
export function play(seed: number, watch: (world: World) => void = () => {}): Outcome {
  const waves = [["a"], ["b", "c"], ["d"]]
  const order = drawOrder(new Dice(`${seed}/order`), waves)
  const world = new World({ seed: String(seed), waves, soakSeconds, order })
  const storm = new Storm(world)
  const operators = new Operators(String(seed), world)
  let published = 1
  const problems: Array<string> = []
  const bad = world.dice.pick<Badness>(["probe", "switch", "unit"])
  spoil(world, bad)

  const publish = (version: number) => {
    published = version
    world.publish(version)
  }
  const happens = () => {
    storm.blow()
    operators.act(rolloutIdOf(published))
  }

  const chapter = (name: string, over: () => boolean, besides: () => void = () => {}) => {
    const began = world.timeline.now
    for (;;) {
      const elapsed = world.timeline.now - began
      if (elapsed % lookMs === 0 && over()) break
      if (elapsed > chapterMs) {
        problems.push(`${name}: not reached within ${chapterMs / 60_000} virtual minutes`)
        return
      }
      if (elapsed < stormMs) happens()
      else storm.settle()
      besides()
      world.pass(tickMs)
      watch(world)
    }
    world.trace.add("world", `${name}: reached`)
  }

  publish(1)
  world.start()
  chapter("all hosts run r1", () => converged(world, 1))
  publish(2)
  const besides = world.dice.chance(0.5) ? () => storm.loseAgent() : undefined
  chapter("the canary is back on r1 and r2 is stopped", () => stopped(world), besides)
  for (let passed = 0; passed < quarantineMs; passed += tickMs) {
    happens()
    world.pass(tickMs)
    watch(world)
  }
  publish(3)
  chapter("all hosts run r3", () => converged(world, 3))
  storm.settle()
  chapter("everything has arrived", () => isDrained(openBooks(world)))

  const books = openBooks(world)
  problems.push(
    ...checkAll(books),
    ...orderBroken(books, order),
    ...revocationsDisobeyed(books),
    ...operatorsDisobeyed(books, operators, epochMs + world.timeline.now),
    ...touched(world)
  )
  return {
    seed,
    hash: world.trace.digest(),
    problems,
    history: world.trace.lines,
    lasted: world.timeline.now,
    faults: { ...storm.counts, ...world.network.counts, ...guardCounts(world) },
    actions: operators.counts
  }
}

const guardCounts = ({ hosts }: World): Readonly<Record<string, number>> => {
  const fired = hosts.reduce((sum, { guard }) => sum + guard.fired.length, 0)
  return fired === 0 ? {} : { "guard fired": fired }
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
    if (dice.chance(0.004)) this.#loseJournal(host())
    if (dice.chance(0.006)) this.#count("restart", () => machine().machine.restart())
    if (dice.chance(0.008)) {
      this.#count("probes that cannot run", () => world.blind(host(), dice.between(1_000, 90_000)))
    }
    if (dice.chance(0.008)) this.#count("cut off", () => world.cutOff(host(), dice.between(5_000, 120_000)))
    if (dice.chance(0.006)) this.#count("revoked", () => world.revoke(host(), dice.between(30_000, 180_000)))
    if (dice.chance(0.006)) {
      this.#count("full disk", () => world.failDisk(machine(), Array(dice.between(1, 6)).fill("full")))
    }
    if (dice.chance(0.006)) {
      this.#count("commit error", () => world.failDisk(machine(), [dice.pick(["failed", "doneButError"])]))
    }
  }

  /** The bad release takes the canary's agent with it, once, for longer than any guard waits. */
  loseAgent(): void {
    const canary = canaryOf(this.#world)
    if (this.counts["lost agent"] !== undefined || canary?.machine.running !== true || !hasTried(canary, 2)) return
    this.#count("lost agent", () => canary.machine.crash(this.#world.dice.between(1_000_000, 1_500_000)))
  }

  /**
   * Never the canary's: where it has to go back to is in no other place. Down for longer than a request can be on its way, as
   * a host is whose disk is changed.
   */
  #loseJournal(host: VirtualHost): void {
    const { dice } = this.#world
    if (host === canaryOf(this.#world) || !host.machine.running) return
    this.#count("lost journal", () => this.#world.loseJournal(host, dice.between(20_000, 60_000)))
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

/** Makes the second release bad on every host. */
function spoil(world: World, bad: Badness): void {
  const spoiled = closureOf(2)
  for (const host of world.hosts) {
    const { hardware } = host
    switch (bad) {
      case "probe":
        host.web = () => hardware.running === spoiled ? fail("status 500, expected 200") : passes
        break
      case "unit":
        host.failedUnits = () => hardware.running === spoiled ? ["web.service"] : []
        break
      case "switch": {
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

/** It was switched to the release. */
const hasTried = ({ hardware }: VirtualHost, version: number): boolean =>
  hardware.runs.some(({ closure }) => closure === closureOf(version))

const canaryOf = ({ hosts, waves }: World) => hosts.find(({ name }) => name === waves[0]?.[0])

/** The canary has tried r2, went back, and the control plane knows. */
function stopped(world: World): boolean {
  const canary = canaryOf(world)
  if (canary === undefined || canary.hardware.running !== closureOf(1)) return false
  return hasTried(canary, 2) && mirrorStates(world, 2)(canary) === "Reverted"
}

/** Nobody but the canary was ever touched by the bad release. */
const touched = (world: World): ReadonlyArray<string> =>
  world.hosts.filter((host) => host !== canaryOf(world) && hasTried(host, 2))
    .map(({ name }) => `${name} was switched to the bad release`)
