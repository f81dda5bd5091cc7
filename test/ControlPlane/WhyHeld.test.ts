/** What is said of a host that is held back: by each gate, by an operator, by something of its own. */
import { describe } from "@effect/vitest"
import { revocationsInForce } from "../../src/ControlPlane/Identities.ts"
import { closureOf, dispatched, Plane, reference, soakMs, start } from "../support/controlPlane.ts"
import {
  acted,
  at,
  completeWithout,
  explained,
  heard,
  id,
  minute,
  r1,
  soaking,
  target,
  toBeOpened,
  withEntry
} from "../support/why.ts"
describe("what holds a host (D17)", () => {
  explained([
    {
      name: "an earlier wave is not complete; what that host is at is told",
      arrange: soaking(),
      host: "h2",
      standing: "held",
      reason: "wave-promotion",
      because: "wave 1 of 2 is not complete: h1 is soaking",
      earliestAfterMs: soakMs,
      clearedBy: /^convergence of every host of wave 1$/,
      evidence: [/^h1: it runs a1000000000000000000000000000000-h1 and soaks until /]
    },
    {
      name: "the end of a chain says where it begins",
      arrange: () => {
        const plane = heard({ ...r1, edges: [["h2", "h3"]] })
        for (let passed = 0; passed < 5; passed++) plane.pass(minute)
        return plane
      },
      host: "h3",
      standing: "held",
      reason: "wave-promotion",
      because: "wave 1 of 2 is not complete: h1 was not activated yet",
      evidence: [/^h1: its dispatch is ready since .*, but the host does not fetch it, and it is silent since /]
    },
    {
      name: "a host comes first",
      arrange: () => heard({ ref: "a1", waves: [["h1", "h2"]], edges: [["h1", "h2"]] }),
      host: "h2",
      standing: "held",
      reason: "host-edges",
      because: "h1 comes first: it was not activated yet",
      evidence: [/^h1: its dispatch is ready/]
    },
    {
      name: "a channel comes first",
      arrange: () =>
        heard({ channel: "edge", ref: "e1", waves: [["e1"]] }, { ref: "a1", waves: [["h1"]], after: ["edge"] }),
      standing: "held",
      reason: "channel-edges",
      because: "channel edge comes first: edge@e1 is in wave 1 of 1: e1 was not activated yet",
      evidence: [/^e1: its dispatch is ready/]
    },
    {
      name: "a budget is used up",
      arrange: () => {
        const plane = heard({
          ref: "a1",
          waves: [["h1", "h2"]],
          budgets: [{ hosts: ["h1", "h2"], maxInFlight: 1 }]
        })
        dispatched(plane, "h2").soaks(plane)
        return plane
      },
      standing: "held",
      reason: "disruption-budget",
      because: "the budget of hosts h1, h2 lets 1 of its 2 hosts be in flight, and 1 is: h2 is soaking (stable@a1)",
      earliestAfterMs: soakMs,
      evidence: [/^h2: it runs .* and soaks until /]
    },
    {
      name: "its rollout is halted",
      arrange: soaking((plane, agent) => agent.rollsBack(plane)),
      host: "h2",
      standing: "held",
      reason: "rollout-state",
      because: "the rollout is halted: it is Reverted, because h1 failed",
      evidence: [
        /^h1: a1000000000000000000000000000000-h1 failed at .*: its probe web failed for too long; it is back on/
      ]
    },
    {
      name: "its closure is quarantined",
      arrange: soaking((plane, agent) => {
        agent.rollsBack(plane)
        const closures = { h1: target }
        plane.publish({ ref: "b2", waves: [["h1"]], signedAt: start + 1, closures })
      }),
      standing: "held",
      reason: "quarantine",
      because: `${target} is quarantined: it failed on h1`,
      evidence: [/^a1000000000000000000000000000000-h1 failed on h1 in stable@a1$/]
    },
    {
      name: "the database is new",
      arrange: () => {
        const plane = new Plane()
        plane.publish(r1)
        plane.greets("h1")
        return plane
      },
      standing: "held",
      reason: "recovery",
      because:
        "the channel is new to this database, and not all that these hosts have done is known here yet: h2 and h3",
      earliestAfterMs: 150_000
    },
    {
      name: "the host could not take it",
      arrange: () => {
        const plane = heard(r1)
        dispatched(plane, "h1")
        const rejection = { rollout_id: id, reason: "bad-signature", detail: "current: does not match", at: plane.now }
        plane.heartbeat("h1", { rejections: [rejection] })
        return plane
      },
      standing: "held",
      reason: "rejected-by-host",
      because: "the host could not take it: bad-signature, no trusted key made this signature over these bytes",
      earliestAfterMs: minute,
      evidence: [/^it could not take stable@a1: bad-signature, .* \(current: does not match\)$/]
    },
    {
      name: "the release is stale",
      arrange: () => {
        const plane = heard(r1)
        plane.pass(365 * 24 * 60 * minute)
        plane.hear(r1)
        return plane
      },
      standing: "held",
      reason: "stale",
      because: "stable@a1 was signed longer ago than its window allows",
      clearedBy: /^an operator: publish the release signed anew$/
    },
    {
      name: "a further attempt, and an agent of the original",
      arrange: () => {
        const plane = new Plane()
        plane.publish(r1)
        plane.pass(0)
        for (const host of ["h1", "h2", "h3"]) plane.heartbeat(host, {}, reference)
        for (const host of ["h1", "h2", "h3"]) plane.polls(host)
        plane.publish({ ...r1, signedAt: start + 1, closures: { h1: closureOf("b2", "h1") } })
        plane.heartbeat("h1", {}, reference)
        return plane
      },
      standing: "held",
      reason: "attempt-not-supported",
      because: "the agent of this host cannot do attempt 2 of a rollout"
    },
    {
      name: "its certificates are revoked",
      arrange: () => {
        const plane = heard(r1)
        const revocations = [{ hostname: "h1", notBefore: start + 1, reason: "stolen" }]
        const list = revocationsInForce({ signedAt: start, hash: "", revocations })
        plane.state = { ...plane.state, identities: { ...plane.state.identities, revocations: list } }
        return plane
      },
      standing: "held",
      reason: "certificate-revoked",
      because: `its certificates from before ${at(0)} are revoked (stolen): it is refused here`
    },
    {
      name: "an operator froze everything",
      arrange: () => acted({ action: "Freeze", channel: null, reason: "database migration", until: start + minute }),
      standing: "held",
      reason: "frozen",
      because: `every channel is frozen by alice until ${at(minute)}: "database migration"`,
      clearedBy: /^nixfleet unfreeze/,
      earliestAfterMs: minute
    },
    {
      name: "a freeze whose time is over, and that nobody has ended yet, promises no time any more",
      arrange: () => {
        const plane = acted({ action: "Freeze", channel: null, reason: "database migration", until: start + minute })
        plane.now += minute
        return plane
      },
      standing: "held",
      reason: "frozen",
      because: `every channel is frozen by alice until ${at(minute)}: "database migration"`
    },
    {
      name: "an operator paused the rollout",
      arrange: () => acted({ action: "PauseRollout", rolloutId: id, reason: "a look first", until: start + minute }),
      standing: "held",
      reason: "paused",
      because: `the rollout is paused by alice until ${at(minute)}: "a look first"`,
      clearedBy: /nixfleet rollout resume stable@a1/,
      earliestAfterMs: minute
    },
    {
      name: "an operator holds the host",
      arrange: () => acted({ action: "HoldHost", host: "h1", reason: "new disk", until: start + minute }),
      standing: "held",
      reason: "held",
      because: `the host is held by alice until ${at(minute)}: "new disk"`,
      clearedBy: /nixfleet host release h1/,
      earliestAfterMs: minute
    },
    {
      name: "its rollout is complete without it, and it is still held",
      arrange: completeWithout,
      host: "h2",
      standing: "held",
      reason: "held",
      because: `the host is held by alice until ${at(2 * soakMs)}: "new disk"`,
      clearedBy: /nixfleet host release h2/,
      earliestAfterMs: 2 * soakMs
    },
    {
      name: "the last word of a new database's host is told",
      arrange: () => {
        const plane = new Plane()
        plane.publish(r1)
        plane.greets("h1")
        return plane
      },
      host: "h3",
      standing: "held",
      reason: "recovery",
      because:
        "the channel is new to this database, and not all that these hosts have done is known here yet: h2 and h3",
      earliestAfterMs: 150_000,
      evidence: [/^h2: it was never heard by this database$/]
    },
    {
      name: "its events are not here",
      arrange: () => {
        const plane = heard(r1)
        const agent = dispatched(plane, "h1")
        agent.does({ kind: "DispatchAck", currentClosureAtDispatch: "0-before", receivedAt: plane.now }, plane.now)
        plane.pass(2 * minute)
        plane.heartbeat("h1", { digests: [agent.digest], pending_events: 4, parked_events: 1 })
        return plane
      },
      standing: "held",
      reason: "awaiting-replay",
      because: "the host has events up to 1 that are not here yet",
      clearedBy: /^the host, by delivering them/,
      evidence: [
        /^4 events of it were not delivered yet$/,
        /^1 events of it are set aside, because they were not taken$/
      ]
    },
    {
      name: "it accepted a newer rollout, which closed this one",
      arrange: () => {
        const plane = heard(r1)
        return withEntry(plane, (entry) => ({ ...entry, record: { ...entry.record, closedAt: start } }))
      },
      standing: "held",
      reason: "superseded",
      because: "since stable@a1 came into force the host has accepted another rollout, which is newer for it",
      clearedBy: /^an operator: publish the release once more under a new ref$/
    },
    {
      name: "its rollout is to be opened again, and its wave is not the first",
      arrange: toBeOpened,
      host: "h2",
      standing: "held",
      reason: "wave-promotion",
      because: "wave 1 of 2 is not complete: h1 was not activated yet"
    },
    {
      name: "its certificates are revoked while it soaks",
      arrange: soaking((plane) => {
        const list = revocationsInForce({
          signedAt: start,
          hash: "",
          revocations: [{ hostname: "h1", notBefore: start + 1 }]
        })
        plane.state = { ...plane.state, identities: { ...plane.state.identities, revocations: list } }
      }),
      standing: "held",
      reason: "certificate-revoked",
      because: `its certificates from before ${at(0)} are revoked: it is refused here`
    }
  ])
})
