/**
 * A fleet: hosts, a control plane, the releases that are published one after the other, and everything that can happen between
 * them, step by step. Which faults there are, and how many in one history, is the bound of a model (`models.ts`).
 */
import { HashMap } from "effect"
import type { VerifiedArtifacts } from "../../src/ControlPlane/Input.ts"
import type { OperatorAction } from "../../src/Schema/Interventions.ts"
import { closureOf, type Release, unitOf } from "../support/controlPlane.ts"
import * as Hosts from "./hosts.ts"
import { type Host, type Named, newHost } from "./hosts.ts"
import { heldUntil, isRecovering, leaseOf, type Plane, Planes } from "./plane.ts"
import type { Kind, Outcome, Rule } from "./search.ts"
import { same } from "./values.ts"

export type HostName = "h1" | "h2" | "h3"

/** Parts of a state: the index of the published release, the control plane, and each host by its name. */
export type Fleet =
  & { readonly published: { readonly release: number }; readonly plane: Plane }
  & { readonly [Name in HostName]?: Host }

export interface Setting {
  readonly hosts: ReadonlyArray<HostName>
  readonly releases: ReadonlyArray<Release>
  /**
   * Where many hosts matter and not how they talk: all that a host has to tell travels at once, and before its next heartbeat.
   */
  readonly isTerse?: boolean
  /** Everybody has greeted before it begins, and nothing is being recovered. */
  readonly isGreeted?: boolean
}

export const before = closureOf("0", "before")

/** The unit of a release, whose soaks last no time: what is due is a matter of when the agent looks. */
function unit(release: Release): VerifiedArtifacts {
  const { fleet, manifests } = unitOf(release)
  const waves = Object.fromEntries(
    Object.entries(fleet.value.waves).map((
      [channel, of]
    ) => [channel, of.map((wave) => ({ ...wave, soakMinutes: 0 }))])
  )
  return { fleet: { ...fleet, value: { ...fleet.value, waves } }, manifests }
}

export class World {
  readonly hosts: ReadonlyArray<HostName>
  readonly planes: Planes
  /** By release. */
  readonly #named: ReadonlyArray<ReadonlyMap<string, Named>>
  readonly #isTerse: boolean

  constructor({ hosts, isTerse = false, releases }: Setting) {
    this.hosts = hosts
    this.#isTerse = isTerse
    const units = releases.map(unit)
    this.planes = new Planes(units)
    this.#named = units.map(({ fleet, manifests }) =>
      new Map(
        [...manifests].flatMap(([rolloutId, { signedAt, value }]) =>
          value.hostSet.map(({ hostname, targetClosure }) => {
            const policy = fleet.value.rolloutPolicies[value.channel]
            const onHealthFailure = policy?.onHealthFailure ?? "halt"
            return [
              `${rolloutId} ${hostname}`,
              { targetClosure, signedAt, policy: { onHealthFailure, soakMs: 0, sustainedFailureMs: 0 } }
            ] as const
          })
        )
      )
    )
  }

  /** What the newest manifest of a rollout names for a host, of those that were published with this release or before it. */
  named(host: string, rolloutId: string, release = Infinity): Named | undefined {
    const key = `${rolloutId} ${host}`
    return this.#named.findLast((manifests, index) => index <= release && manifests.has(key))?.get(key)
  }

  /** Every host runs the same old system, and the first release is published. */
  get initial(): Fleet {
    return {
      published: { release: 0 },
      plane: this.planes.initial,
      ...Object.fromEntries(this.hosts.map((name) => [name, newHost(name, before)]))
    }
  }

  /** The same, after everybody has greeted, and the release was read: nothing is being recovered. */
  get greeted(): Fleet {
    const read = this.planes.reads(this.planes.initial, 0)
    return this.hosts.reduce<Fleet>((fleet, name) => {
      const host = newHost(name, before)
      const { plane, response } = this.planes.heard(fleet.plane, Hosts.heartbeat(host))
      return Object.assign({}, fleet, { plane, [name]: Hosts.answered(host, response) })
    }, { ...this.initial, plane: read })
  }

  get rules(): ReadonlyArray<Rule<Fleet>> {
    return [
      ...this.#ofPlane(),
      ...this.#ofOperator(),
      ...this.hosts.flatMap((name) => [
        ...ofHost(name),
        this.#takes(name),
        ...this.#between(name)
      ])
    ]
  }

  #ofPlane(): ReadonlyArray<Rule<Fleet>> {
    const { planes } = this
    return [
      {
        name: "the control plane reads the release",
        kind: "step",
        on: ["published", "plane"],
        run: ({ plane, published: { release } }) =>
          plane.release === release ? [] : [{ to: { plane: planes.reads(plane, release) } }]
      },
      {
        name: "time passes for the control plane",
        kind: "step",
        on: ["plane", ...this.hosts],
        run: (fleet) => this.#isAwaited(fleet) ? [] : [{ to: { plane: planes.passes(fleet.plane) } }]
      },
      {
        name: "time passes for the control plane, before a host has answered",
        kind: "fault",
        costs: "slow",
        on: ["plane", ...this.hosts],
        run: (fleet) => this.#isAwaited(fleet) ? [{ to: { plane: planes.passes(fleet.plane) } }] : []
      },
      {
        name: "the next release is published",
        kind: "fault",
        costs: "release",
        on: ["published"],
        run: ({ published: { release } }) => [{ to: { published: { release: release + 1 } } }]
      },
      {
        name: "the control plane crashes and starts",
        kind: "fault",
        costs: "restart",
        on: ["plane"],
        run: ({ plane }) => [{ to: { plane: planes.restarted(plane) } }]
      },
      {
        name: "the control plane loses its database",
        kind: "fault",
        costs: "wipe",
        on: ["plane"],
        run: () => [{ to: { plane: planes.wiped } }]
      }
    ]
  }

  /** What an operator may do at any time; what it cannot do is refused. */
  #ofOperator(): ReadonlyArray<Rule<Fleet>> {
    const reason = "why"
    const acts = (name: string, action: (current: string) => OperatorAction): Rule<Fleet> => ({
      name: `an operator ${name}`,
      kind: "fault",
      costs: "operator",
      on: ["plane"],
      run: ({ plane }) => {
        const current = HashMap.values(plane.state.channels).next().value?.current
        const next = current === undefined ? undefined : this.planes.acted(plane, same(action(current)))
        return next === undefined ? [] : [{ to: { plane: next } }]
      }
    })
    return [
      acts("pauses the rollout", (rolloutId) => ({ action: "PauseRollout", rolloutId, reason, until: heldUntil })),
      acts("resumes the rollout", (rolloutId) => ({ action: "ResumeRollout", rolloutId, reason })),
      acts("freezes every channel", () => ({ action: "Freeze", channel: null, reason, until: heldUntil })),
      acts("clears the rollout", (rolloutId) => ({ action: "ClearRollout", rolloutId, reason })),
      acts("clears the quarantine", (rolloutId) => ({ action: "ClearQuarantine", of: { rolloutId }, reason })),
      ...this.hosts.flatMap((host) => [
        acts(`holds ${host}`, () => ({ action: "HoldHost", host, reason, until: heldUntil })),
        acts(`releases ${host}`, () => ({ action: "ReleaseHost", host, reason }))
      ])
    ]
  }

  #takes(name: HostName): Rule<Fleet> {
    return {
      name: `${name} takes the dispatch`,
      kind: "step",
      on: [name, "published"],
      run: ({ [name]: host, published: { release } }) =>
        host?.inHand === undefined
          ? []
          : [{ to: { [name]: Hosts.take(host, (rolloutId) => this.named(name, rolloutId, release)) } }]
    }
  }

  /** Up to an answer that sends it back, or that is none. */
  #tellsAll(host: Host, plane: Plane): ReadonlyArray<Outcome<{ host: Host; plane: Plane }>> {
    let [told, next] = [host, plane]
    for (let row = Hosts.dueRows(told)[0]; row !== undefined; row = Hosts.dueRows(told)[0]) {
      const { answer, plane: after } = this.planes.posted(next, host.name, row)
      told = Hosts.delivered(told, row, answer)
      next = after
      if (answer._tag === "Gap" || answer._tag === "NotReady") break
    }
    return told === host && next === plane ? [] : [{ to: { host: told, plane: next } }]
  }

  /** As a rule a dispatch is acknowledged within its lease, and a new database hears its hosts within the grace. */
  #isAwaited(fleet: Fleet): boolean {
    const { plane } = fleet
    return isRecovering(plane.state) || this.hosts.some((name) => {
      const host = fleet[name]
      if (host === undefined || leaseOf(plane, name) === undefined) return false
      return host.inHand !== undefined || Hosts.dueRows(host).length > 0
    })
  }

  /** What a host and the control plane do together. */
  #between(name: HostName): ReadonlyArray<Rule<Fleet>> {
    const { planes } = this
    const both = (
      rule: string,
      kind: Kind,
      run: (host: Host, plane: Plane) => ReadonlyArray<Outcome<{ host: Host; plane: Plane }>>,
      costs?: string
    ): Rule<Fleet> => ({
      name: `${name} ${rule}`,
      kind,
      ...(costs === undefined ? {} : { costs }),
      on: [name, "plane"],
      run: ({ [name]: host, plane }) =>
        host === undefined ? [] : run(host, plane).map((outcome) => named(name, outcome))
    })
    return [
      both("polls", "step", (host, plane) => {
        if (!host.greeted || host.inHand !== undefined) return []
        const { dispatch, plane: next } = planes.polled(plane, name, Hosts.taken(host))
        return dispatch === undefined
          ? [{ to: { plane: next } }]
          : [{ says: `gets ${dispatch.rollout_id}`, to: { host: Hosts.given(host, dispatch), plane: next } }]
      }),
      both("polls", "fault", (host, plane) => {
        if (!host.greeted || host.inHand !== undefined) return []
        const taken = Hosts.taken(host)
        const { dispatch, plane: next } = planes.polled(plane, name, taken)
        return dispatch === undefined ? [] : [
          { says: "the dispatch is lost", to: { plane: next } },
          { says: "the dispatch is lost, and that is noticed", to: { plane: planes.aborted(plane, name, taken) } }
        ]
      }, "loss"),
      both("posts", "step", (host, plane) => {
        if (!host.greeted) return []
        if (this.#isTerse) return this.#tellsAll(host, plane)
        return Hosts.dueRows(host).map((row) => {
          const { answer, plane: next } = planes.posted(plane, name, row)
          const { event: { kind, seq }, rolloutId } = row
          const says = `${kind} ${seq} of ${rolloutId}: ${answer._tag}`
          return { says, to: { plane: next, host: Hosts.delivered(host, row, answer) } }
        })
      }),
      both("posts", "fault", (host, plane) =>
        host.greeted
          ? Hosts.dueRows(host).map((row) => ({
            says: `${row.event.kind} ${row.event.seq} of ${row.rolloutId}: the answer is lost`,
            to: { plane: planes.posted(plane, name, row).plane }
          }))
          : [], "loss"),
      both("has posted", "fault", (host, plane) =>
        Hosts.sentRows(host).map((row) => ({
          says: `${row.event.kind} ${row.event.seq} of ${row.rolloutId}, and it arrives again, late`,
          to: { plane: planes.posted(plane, name, row).plane }
        })), "repeat"),
      both("sends a heartbeat", "step", (host, plane) => {
        if (this.#isTerse && host.greeted && Hosts.dueRows(host).length > 0) return []
        const { plane: next, response } = planes.heard(plane, Hosts.heartbeat(host))
        return [{ to: { plane: next, host: Hosts.answered(host, response) } }]
      }),
      both("sent a heartbeat", "step", (host, plane) => {
        const { beat, ...rest } = host
        return beat === undefined
          ? []
          : [{ says: "and it arrives late", to: { plane: planes.heard(plane, beat).plane, host: rest } }]
      })
    ]
  }
}

/** What becomes of a host, under its name. */
function named(name: HostName, { says, to }: Outcome<{ host: Host; plane: Plane }>): Outcome<Fleet> {
  const { host, plane } = to
  return {
    ...(says === undefined ? {} : { says }),
    to: { ...(plane === undefined ? {} : { plane }), ...(host === undefined ? {} : { [name]: host }) }
  }
}

/** What happens on a host alone. */
function ofHost(name: HostName): ReadonlyArray<Rule<Fleet>> {
  const alone = (
    rule: string,
    kind: Kind,
    run: (host: Host) => ReadonlyArray<readonly [string | undefined, Host | undefined]>,
    costs?: string
  ): Rule<Fleet> => ({
    name: `${name} ${rule}`,
    kind,
    ...(costs === undefined ? {} : { costs }),
    on: [name],
    run: ({ [name]: host }) =>
      host === undefined ?
        [] :
        run(host).flatMap(([says, next]) =>
          next === undefined ? [] : [{ ...(says === undefined ? {} : { says }), to: { [name]: next } }]
        )
  })
  const ending = (says: string, code: number, moves: boolean) => (host: Host) =>
    [says, Hosts.ends(host, Hosts.exited(code), moves)] as const
  return [
    alone("looks at its activation", "step", (host) => [[undefined, Hosts.look(host, false)]]),
    alone("looks at its activation, later", "step", (host) => [[undefined, Hosts.look(host, true)]]),
    alone("cannot fetch", "bad", (host) => [[undefined, Hosts.cannotFetch(host)]]),
    alone("starts the switch", "step", (host) => [[undefined, Hosts.start(host)]]),
    alone("ends its switch", "good", (host) => [ending("well", 0, true)(host)]),
    // That the old system can be gone back to is no matter of luck with the new one.
    alone("ends its switch back", "step", (host) => Hosts.isRollingBack(host) ? [ending("well", 0, true)(host)] : []),
    alone(
      "ends its switch",
      "bad",
      (host) => Hosts.isRollingBack(host) ? [] : [ending("with 1, moved", 1, true)(host)]
    ),
    alone(
      "ends its switch back in another way",
      "bad",
      (host) => Hosts.isRollingBack(host) ? [ending("with 1, not moved", 1, false)(host)] : []
    ),
    alone("ends its switch in another way", "bad", (host) =>
      Hosts.isRollingBack(host) ? [] : [
        ending("with 0, not moved", 0, false)(host),
        ending("with 1, not moved", 1, false)(host),
        ending("with 4, moved", 4, true)(host),
        ending("and needs a reboot", 100, false)(host),
        ["out of time", Hosts.ends(host, { _tag: "TimedOut", stderrTail: "" }, false)],
        ["killed", Hosts.ends(host, { _tag: "Killed", signal: "SIGKILL", stderrTail: "" }, false)]
      ]),
    alone("is rebooted", "good", (host) => [[undefined, Hosts.reboot(host)]]),
    alone("declares its probes", "step", (host) => [[undefined, Hosts.declareProbes(host)]]),
    alone("probes", "good", (host) => [["passes", Hosts.probe(host, "pass")]]),
    alone("probes", "bad", (host) => [["fails", Hosts.probe(host, "fail")]]),
    alone("ticks", "step", (host) => [[undefined, Hosts.tick(host, false)]]),
    alone("ticks, later", "step", (host) => [[undefined, Hosts.tick(host, true)]]),
    alone("crashes and starts", "fault", (host) => [[undefined, Hosts.restarted(host)]], "crash"),
    alone("loses power and boots", "fault", (host) => [[undefined, Hosts.powerCut(host)]], "cut"),
    alone("is switched by hand", "fault", (host) => [
      [undefined, { ...host, machine: { ...host.machine, running: "by-hand", profile: "by-hand" } }]
    ], "hand"),
    alone("sends a heartbeat", "fault", (host) => [
      ["that is long under way", { ...host, beat: Hosts.heartbeat(host) }]
    ], "delay")
  ]
}
