/** What is said of a host that no release in force means, and of one that nobody knows. */
import { assert, describe, it } from "@effect/vitest"
import { why } from "../../src/ControlPlane/Why.ts"
import { start } from "../support/controlPlane.ts"
import { changed, explain, explained, heard, r1, target, withFleet, withHost } from "../support/why.ts"
describe("a host that is in no rollout (D17)", () => {
  it("of one that nobody knows there is nothing to say, whatever it is called", () => {
    const { now, state } = heard(r1)
    for (const name of ["h9", "", "__proto__", "constructor", "h1 "]) assert.isUndefined(why(state, now, name), name)
  })

  it("of one that says a lot, as much is shown as a person reads", () => {
    const plane = heard(r1)
    const rejections = Array.from({ length: 64 }, (_, index) => ({
      rollout_id: `stable@${index}`,
      reason: "stale",
      detail: "x".repeat(1_000),
      at: plane.now
    }))
    plane.heartbeat("h1", { rejections })
    assert.strictEqual(explain(plane, "h1").evidence.length, 32)
  })

  explained([
    {
      name: "the fleet does not declare it",
      arrange: () => {
        const plane = heard(r1)
        plane.publish({ ref: "b2", waves: [["h1"]], signedAt: start + 1 })
        return plane
      },
      host: "h3",
      standing: "not-rolled-out",
      reason: "host-not-declared",
      because: "the fleet in force does not declare it; " +
        "it is Pending in stable@a1, its last rollout, and is sent nothing more"
    },
    {
      name: "the fleet declares nothing for it",
      arrange: () => changed((unit) => withHost(unit, "h1", { closureHash: null })),
      standing: "not-rolled-out",
      reason: "nothing-to-run",
      because: "the fleet declares no closure for it"
    },
    {
      name: "its channel has no manifest",
      arrange: () => changed((unit) => ({ ...unit, manifests: new Map() })),
      standing: "not-rolled-out",
      reason: "manifest-absent",
      because: "no verified manifest of channel stable is in force, so that nothing is rolled out there",
      clearedBy: /^an operator: publish a manifest of channel stable that verifies/
    },
    {
      name: "its channel has no policy",
      arrange: () => changed((unit) => withFleet(unit, { rolloutPolicies: {} })),
      standing: "not-rolled-out",
      reason: "policy-missing",
      because: "the fleet has no rollout policy for channel stable, so that stable@a1 is not rolled out"
    },
    {
      name: "the manifest does not list it",
      arrange: () => changed((unit) => withHost(unit, "h9", { closureHash: target })),
      host: "h9",
      standing: "not-rolled-out",
      reason: "manifest-host-missing",
      because: "the manifest of stable@a1, which is in force on channel stable, does not list it: it is in no wave"
    },
    {
      name: "no release was verified since the start",
      arrange: () => {
        const plane = heard(r1)
        const { artifacts: _, ...state } = plane.state
        plane.state = { ...state, manifests: new Map() }
        return plane
      },
      standing: "not-rolled-out",
      reason: "not-ready",
      because: "this control plane has not verified any release since it started, so that it dispatches nothing"
    }
  ])
})
