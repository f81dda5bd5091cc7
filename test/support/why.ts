/** Explanations of hosts (D17): planes on which a host waits for something, and the table in which tests say what is said of it. */
import { assert, it } from "@effect/vitest"
import { HashMap, Schema } from "effect"
import type { VerifiedArtifacts } from "../../src/ControlPlane/Input.ts"
import type { HostInRollout } from "../../src/ControlPlane/State.ts"
import { why } from "../../src/ControlPlane/Why.ts"
import type { FleetHost } from "../../src/Schema/Artifacts.ts"
import type { OperatorAction } from "../../src/Schema/Interventions.ts"
import { Explanation, type Standing } from "../../src/Schema/OperatorViews.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { isReason } from "../../src/Schema/Reasons.ts"
import { type Agent, closureOf, dispatched, idOf, Plane, type Release, soakMs, start, unitOf } from "./controlPlane.ts"

export const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
export const id = idOf(r1)
export const target = closureOf("a1", "h1")
export const minute = 60_000

const encode = Schema.encodeSync(Explanation)

/** The explanation, which must be one that can be written, and say something. */
export function explain({ now, state }: Plane, host: string): Explanation {
  const found = why(state, now, host)
  if (found === undefined) return assert.fail(`nothing is known of ${host}`)
  encode(found)
  assert.isTrue(isReason(found.reason), found.reason)
  assert.isAbove(found.because.length, 20, "a sentence that says something")
  if (found.standing !== "at-target") assert.isAbove(found.clearedBy?.length ?? 0, 10)
  return found
}

/** A plane that listens, and on which everybody was heard. */
export function heard(...releases: ReadonlyArray<Release>): Plane {
  const plane = new Plane()
  plane.publish(...releases)
  plane.pass(0)
  plane.hear(...releases)
  return plane
}

export interface Case {
  readonly name: string
  readonly arrange: () => Plane
  readonly host?: string
  readonly standing: Standing
  readonly reason: string
  readonly because: string
  readonly clearedBy?: RegExp
  /** After the start. */
  readonly earliestAfterMs?: number
  readonly evidence?: ReadonlyArray<RegExp>
}

const accepted = (): readonly [Plane, Agent] => {
  const plane = heard(r1)
  const agent = dispatched(plane, "h1")
  agent.accepts(plane)
  return [plane, agent]
}

export const on = (change: (plane: Plane, agent: Agent) => void) => (): Plane => {
  const [plane, agent] = accepted()
  change(plane, agent)
  return plane
}

export const soaking = (change: (plane: Plane, agent: Agent) => void = () => {}) => (): Plane => {
  const plane = heard(r1)
  const agent = dispatched(plane, "h1")
  agent.soaks(plane)
  change(plane, agent)
  return plane
}

export const convergedAt = (change: (plane: Plane, agent: Agent) => void = () => {}) =>
  soaking((plane, agent) => {
    plane.pass(soakMs)
    agent.converges(plane)
    change(plane, agent)
  })

export const acted = (action: OperatorAction): Plane => {
  const plane = heard(r1)
  plane.act(action)
  return plane
}

/** With another entry of h1 in its rollout. */
export function withEntry(plane: Plane, change: (entry: HostInRollout) => HostInRollout): Plane {
  const rollouts = HashMap.modify(plane.state.rollouts, id, (rollout) => ({
    ...rollout,
    hosts: HashMap.modify(rollout.hosts, "h1", change)
  }))
  plane.state = { ...plane.state, rollouts }
  return plane
}

/** Converged, and superseded since as far as the records say, while its manifest is in force. */
export function toBeOpened(): Plane {
  const plane = convergedAt()()
  const rollouts = HashMap.modify(plane.state.rollouts, id, (rollout) => ({
    ...rollout,
    record: { ...rollout.record, state: "Superseded" as const }
  }))
  plane.state = { ...plane.state, rollouts }
  return plane
}

/** Two hosts in one wave; h2 is held while h1 converges. */
export function completeWithout(): Plane {
  const plane = heard({ ref: "a1", waves: [["h1", "h2"]] })
  plane.act({ action: "HoldHost", host: "h2", reason: "new disk", until: start + 2 * soakMs })
  const agent = dispatched(plane, "h1")
  agent.soaks(plane)
  plane.pass(soakMs)
  agent.converges(plane)
  return plane
}

type FleetValue = VerifiedArtifacts["fleet"]["value"]

export const withFleet = (unit: VerifiedArtifacts, fields: Partial<FleetValue>): VerifiedArtifacts => ({
  ...unit,
  fleet: { ...unit.fleet, value: { ...unit.fleet.value, ...fields } }
})

/** A host like h1, but for these fields. */
export function withHost(unit: VerifiedArtifacts, host: string, fields: Partial<FleetHost>): VerifiedArtifacts {
  const { hosts } = unit.fleet.value
  const like = hosts["h1"] ?? assert.fail("h1 is not declared")
  return withFleet(unit, { hosts: { ...hosts, [host]: { ...like, ...fields } } })
}

export function changed(change: (unit: VerifiedArtifacts) => VerifiedArtifacts): Plane {
  const plane = new Plane()
  plane.offer({ _tag: "ArtifactsVerified", artifacts: change(unitOf(r1)) })
  plane.pass(0)
  plane.hear(r1)
  return plane
}

export const at = (ms: number): string => formatTimestamp(start + ms)

/** A test for each row: from the inputs that bring it about to the words that an operator reads. */
export function explained(cases: ReadonlyArray<Case>): void {
  for (
    const { arrange, because, clearedBy, earliestAfterMs, evidence = [], host = "h1", name, reason, standing } of cases
  ) {
    it(`${name}: ${reason}`, () => {
      const plane = arrange()
      const found = explain(plane, host)
      assert.deepInclude(found, { hostname: host, at: plane.now, standing, reason, because })
      assert.strictEqual(found.earliestAt, earliestAfterMs === undefined ? null : start + earliestAfterMs)
      if (clearedBy !== undefined) assert.match(found.clearedBy ?? "", clearedBy)
      const facts = found.evidence.map(({ fact }) => fact)
      for (const pattern of evidence) {
        assert.isTrue(facts.some((fact) => pattern.test(fact)), `${pattern} in ${facts.join(" | ")}`)
      }
    })
  }
}
