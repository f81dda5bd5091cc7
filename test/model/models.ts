/**
 * The models, each with its bounds. Faults cost; what costs nothing may happen as often as it likes. `docs/invariants.md` says
 * what each leaves out; NIXFLEET_MODEL=large explores beyond these bounds.
 */
import { currentEntry, entriesOf } from "../../src/Agent/State.ts"
import { sorted } from "../../src/ControlPlane/State.ts"
import { closureOf, type Release } from "../support/controlPlane.ts"
import { type Fleet, type HostName, type Setting, World } from "./fleet.ts"
import { present } from "./hosts.ts"
import { invariantsOf, isAtRest } from "./invariants.ts"
import type { Model } from "./search.ts"

const nothing = {
  crash: 0,
  cut: 0,
  hand: 0,
  loss: 0,
  delay: 0,
  repeat: 0,
  slow: 0,
  restart: 0,
  wipe: 0,
  release: 0,
  operator: 0
}
export type Bounds = Partial<typeof nothing>

export function fleetModel(
  name: string,
  setting: Setting,
  bounds: Bounds,
  { budget = Infinity, without = [] }: { readonly budget?: number; readonly without?: ReadonlyArray<string> } = {}
): Model<Fleet> {
  const world = new World(setting)
  const all = { ...nothing, ...bounds }
  const isAtEnd = (fleet: Fleet) => isAtRest(fleet, world.hosts)
  return {
    name,
    initial: setting.isGreeted === true ? world.greeted : world.initial,
    bounds: all,
    rules: world.rules.filter(({ costs, kind, name: rule }) =>
      (costs === undefined || (Object.entries(all).find(([one]) => one === costs)?.[1] ?? 0) > 0) &&
      !without.some((one) => `${rule}, ${kind}`.includes(one))
    ),
    invariants: invariantsOf(world, budget),
    endings: [
      { name: "ends-when-all-goes-well", by: ["step", "good"], isEnd: isAtEnd },
      // Where probes never fail, a world that decides badly leaves a soak without an answer.
      ...(without.includes(probesFail) ? [] : [
        { name: "ends-when-all-goes-ill", by: ["step", "bad"] as const, isEnd: isAtEnd }
      ])
    ],
    show: (fleet) => shown(fleet, world)
  }
}

function shown(fleet: Fleet, { hosts }: World): string {
  const rollouts = sorted(fleet.plane.state.rollouts).map(([id, { hosts: of, record }]) =>
    `${id} ${record.state}${record.attempt > 1 ? ` (attempt ${record.attempt})` : ""}, ${
      sorted(of).map(([host, { ledger, overlay, record: known }]) =>
        `${host} ${known.state} ${ledger.lastSeq}${overlay === undefined ? "" : ` (${overlay.state})`}`
      ).join(", ")
    }`
  )
  const queue = sorted(fleet.plane.state.queue).map(([host, { lease }]) =>
    `${host} ${lease === undefined ? "queued" : "leased"}`
  )
  const each = hosts.flatMap((name) => {
    const host = fleet[name]
    if (host === undefined) return []
    const current = currentEntry(host.state)?.record
    const known = entriesOf(host.state).map(({ lane, record }) =>
      `${record.rolloutId}${
        record.attempt > 1 ? ` (attempt ${record.attempt})` : ""
      } ${record.state} ${record.lastEventSeq}` +
      (lane.nextSeq > record.lastEventSeq ? "" : ` (from ${lane.nextSeq} undelivered)`) +
      (current === record ? "" : ", closed")
    )
    return [`${name}: ${known.join("; ") || "no rollout"}, runs ${host.machine.running.slice(0, 12)}`]
  })
  return [[...rollouts, ...queue].join("; ") || "control plane: nothing", ...each].join(" | ")
}

const at = (release: number) => present - 10_000 + release
const release = (
  ref: string,
  signedAt: number,
  hosts: ReadonlyArray<HostName>,
  more: Partial<Release> = {}
): Release => ({
  ref,
  waves: [hosts],
  signedAt: at(signedAt),
  ...more
})

const oneHost: Setting = { hosts: ["h1"], releases: [release("r1", 1, ["h1"])] }
const oneRelease: Setting = { ...oneHost, isTerse: true }

const calm = { isTerse: true, isGreeted: true } as const
const following = (...releases: ReadonlyArray<Release>): Setting => ({ ...calm, hosts: ["h1"], releases })
const twoReleases = following(release("r1", 1, ["h1"]), release("r2", 2, ["h1"]))
const andBack = following(...twoReleases.releases, release("r1", 3, ["h1"]))
const sameTarget = { closures: { h1: closureOf("same", "h1") } }
const unchanged = following(release("r1", 1, ["h1"], sameTarget), release("r2", 2, ["h1"], sameTarget))

const budgeted = (refs: ReadonlyArray<string>, ...hosts: ReadonlyArray<HostName>): Setting => ({
  ...calm,
  hosts,
  releases: refs.map((ref, index) => release(ref, index + 1, hosts, { budgets: [{ hosts, maxInFlight: 1 }] }))
})
const inWaves: Setting = {
  ...calm,
  hosts: ["h1", "h2"],
  releases: [release("r1", 1, ["h1", "h2"], { waves: [["h1"], ["h2"]] })]
}

/** How else a switch can end than well, or with 1 on the target; explored with one host. */
const plainEndings = ["another way", "cannot fetch"]

const probesFail = "probes, bad"

export interface Explored {
  readonly name: string
  readonly setting: Setting
  readonly bounds: Bounds
  readonly without?: ReadonlyArray<string>
  readonly budget?: number
}

export const modelOf = ({ bounds, budget, name, setting, without }: Explored): Model<Fleet> =>
  fleetModel(name, setting, bounds, {
    ...(budget === undefined ? {} : { budget }),
    ...(without === undefined ? {} : { without })
  })

const probesPass = [...plainEndings, probesFail]

/** By what is explored; those of `large` take minutes each. */
export const explored = {
  oneHost: [
    { name: "one host, every way in which a switch ends", setting: oneHost, bounds: {} },
    {
      name: "one host that loses power, and whose agent crashes",
      setting: oneRelease,
      bounds: { cut: 1, crash: 1 },
      without: plainEndings
    },
    {
      name: "one host that a person switches, and whose agent crashes",
      setting: oneRelease,
      bounds: { hand: 1, crash: 1 },
      without: plainEndings
    }
  ],
  channel: [
    {
      name: "a channel that loses answers and repeats, out of order",
      setting: oneHost,
      bounds: { loss: 1, repeat: 1 },
      without: plainEndings
    },
    { name: "an acknowledgement that comes late", setting: oneHost, bounds: { slow: 1 }, without: plainEndings },
    { name: "a heartbeat that comes late", setting: oneHost, bounds: { delay: 1 }, without: plainEndings },
    { name: "an agent that crashes", setting: oneHost, bounds: { crash: 1 }, without: plainEndings },
    { name: "a control plane that crashes", setting: oneHost, bounds: { restart: 2 }, without: plainEndings }
  ],
  wipe: [
    { name: "a database that is lost, event by event", setting: oneHost, bounds: { wipe: 1 }, without: plainEndings },
    {
      name: "a database that is lost, and hosts that are silent in it",
      setting: oneRelease,
      bounds: { wipe: 1, slow: 1 },
      without: plainEndings
    },
    {
      name: "a database that is lost, and an agent that crashes",
      setting: oneRelease,
      bounds: { wipe: 1, crash: 1 },
      without: plainEndings
    }
  ],
  superseding: [
    { name: "two rollouts", setting: twoReleases, bounds: { release: 1 }, without: plainEndings },
    {
      name: "two rollouts of the same target",
      setting: unchanged,
      bounds: { release: 1, loss: 1 },
      without: plainEndings
    },
    {
      name: "a rollout, the next one, and back to the first",
      setting: andBack,
      bounds: { release: 2 },
      without: probesPass
    }
  ],
  budget: [
    {
      name: "three hosts, a budget of one, and an acknowledgement that comes late",
      setting: budgeted(["r1"], "h1", "h2", "h3"),
      bounds: { slow: 1 },
      without: probesPass,
      budget: 1
    },
    {
      name: "two hosts, a budget of one, and two rollouts",
      setting: budgeted(["r1", "r2"], "h1", "h2"),
      bounds: { release: 1 },
      without: probesPass,
      budget: 1
    },
    {
      name: "two hosts, a budget of one, and a database that is lost",
      setting: budgeted(["r1"], "h1", "h2"),
      bounds: { wipe: 1 },
      without: probesPass,
      budget: 1
    }
  ],
  waves: [
    {
      name: "two hosts in two waves, whose agents crash",
      setting: inWaves,
      bounds: { crash: 1 },
      without: plainEndings
    }
  ],
  operator: [
    { name: "an operator who does two things", setting: oneRelease, bounds: { operator: 2 }, without: plainEndings }
  ],
  large: [
    {
      name: "one host that loses power, and whose agent crashes, every way in which a switch ends",
      setting: oneRelease,
      bounds: { cut: 1, crash: 1 }
    },
    {
      name: "three hosts, a budget of one, a late acknowledgement, and probes that fail",
      setting: budgeted(["r1"], "h1", "h2", "h3"),
      bounds: { slow: 1 },
      without: plainEndings,
      budget: 1
    },
    {
      name: "three hosts, a budget of one, and agents that crash",
      setting: budgeted(["r1"], "h1", "h2", "h3"),
      bounds: { crash: 1 },
      without: probesPass,
      budget: 1
    },
    {
      name: "two hosts, a budget of one, a database that is lost, and probes that fail",
      setting: budgeted(["r1"], "h1", "h2"),
      bounds: { wipe: 1 },
      without: plainEndings,
      budget: 1
    },
    {
      name: "two hosts in two waves, and an operator",
      setting: inWaves,
      bounds: { operator: 1 },
      without: plainEndings
    }
  ]
} satisfies Readonly<Record<string, ReadonlyArray<Explored>>>
