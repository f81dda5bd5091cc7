/** What is said of a host that has the next step itself, is at its target, or has ended elsewhere. */
import { describe } from "@effect/vitest"
import { closureOf, dispatched, idOf, Plane, probe, type Release, soakMs, start } from "../support/controlPlane.ts"
import {
  at,
  changed,
  completeWithout,
  convergedAt,
  explained,
  heard,
  id,
  minute,
  on,
  r1,
  soaking,
  target,
  toBeOpened,
  withHost
} from "../support/why.ts"
describe("what a host is at (D17)", () => {
  explained([
    {
      name: "its dispatch waits for a poll",
      arrange: () => heard(r1),
      standing: "under-way",
      reason: "not-polled",
      because: `its dispatch is ready since ${at(0)}, and the host has not polled since`
    },
    {
      name: "its dispatch waits for a host that was never heard",
      arrange: () => {
        const plane = new Plane()
        plane.publish(r1)
        for (let passed = 0; passed < 5; passed++) plane.pass(minute)
        return plane
      },
      standing: "under-way",
      reason: "host-silent",
      because: `its dispatch is ready since ${
        at(3 * minute)
      }, but the host does not fetch it, and it was never heard by this database`,
      clearedBy: /see that it runs and reaches the control plane; `nixfleet-agent status` on the host/
    },
    {
      name: "its dispatch waits for a host that went silent",
      arrange: () => {
        const plane = heard(r1)
        for (let passed = 0; passed < 5; passed++) plane.pass(minute)
        return plane
      },
      standing: "under-way",
      reason: "host-silent",
      because: `its dispatch is ready since ${at(0)}, but the host does not fetch it, and it is silent since ${at(0)}`
    },
    {
      name: "its dispatch left with a poll",
      arrange: () => {
        const plane = heard(r1)
        dispatched(plane, "h1")
        return plane
      },
      standing: "under-way",
      reason: "not-acknowledged",
      because: `its dispatch left with a poll at ${at(0)}, and the host has not acknowledged it`,
      clearedBy: /the host, by acknowledging it; without that it is offered again/,
      earliestAfterMs: 90_000
    },
    {
      name: "its lease is over, and nobody has swept yet",
      arrange: () => {
        const plane = heard(r1)
        dispatched(plane, "h1")
        plane.now += 90_000
        return plane
      },
      standing: "under-way",
      reason: "not-acknowledged",
      because: `its dispatch left with a poll at ${at(0)}, and the host has not acknowledged it in time: ` +
        "it is about to be offered again"
    },
    {
      name: "an offer that was lost is told",
      arrange: () => {
        const plane = heard(r1)
        dispatched(plane, "h1")
        plane.pass(90_000)
        return plane
      },
      standing: "under-way",
      reason: "not-polled",
      because: `its dispatch is ready since ${at(0)}, was offered once without an acknowledgement, ` +
        "and the host has not polled since"
    },
    {
      name: "it has accepted, and prepares",
      arrange: on(() => {}),
      standing: "under-way",
      reason: "preparing",
      because: `it has accepted its dispatch and prepares the switch to ${target}`
    },
    {
      name: "it fetches",
      arrange: on((plane, agent) =>
        void plane.heartbeat("h1", {
          digests: [agent.digest],
          fetching: { closure: target, done_bytes: 31_000_000, expected_bytes: 120_000_000 }
        })
      ),
      standing: "under-way",
      reason: "fetching",
      because: `it has accepted its dispatch and fetches ${target}: 31 of 120 MB`
    },
    {
      name: "its disk is full",
      arrange: on((plane, agent) =>
        void plane.heartbeat("h1", {
          digests: [agent.digest],
          held: { reason: "disk-full", detail: "12 MB left of 500 MB", since: plane.now }
        })
      ),
      standing: "under-way",
      reason: "host-held",
      because: "the host says that it cannot go forward: disk-full, " +
        "the disk is full; everything waits until there is room (12 MB left of 500 MB)",
      clearedBy: /^whoever looks after the host/
    },
    {
      name: "its switch runs",
      arrange: on((plane, agent) =>
        agent.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
      ),
      standing: "under-way",
      reason: "switching",
      because: `the switch to ${target} runs since ${at(0)}`
    },
    {
      name: "it went silent while it activated",
      arrange: on((plane) => {
        for (let passed = 0; passed < 5; passed++) plane.pass(minute)
      }),
      standing: "under-way",
      reason: "host-silent",
      because: `the host was activating when it was heard last, and it is silent since ${at(0)}`
    },
    {
      name: "a host that waits at its poll is there, whatever became of its heartbeats",
      arrange: on((plane) => {
        for (let passed = 0; passed < 5; passed++) plane.pass(minute)
        plane.park("h1")
      }),
      standing: "under-way",
      reason: "preparing",
      because: `it has accepted its dispatch and prepares the switch to ${target}`
    },
    {
      name: "nobody was silent while nobody listened",
      arrange: on((plane) => {
        plane.pass(5 * minute)
      }),
      standing: "under-way",
      reason: "preparing",
      because: `it has accepted its dispatch and prepares the switch to ${target}`
    },
    {
      name: "it waits for a reboot",
      arrange: on((plane, agent) => {
        agent.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
        agent.tells(plane, { kind: "ActivationDeferred", component: "kernel", deferredAt: plane.now })
      }),
      standing: "under-way",
      reason: "reboot-pending",
      because: `${target} is in place, and runs after a reboot (kernel)`,
      clearedBy: /reboot the host/,
      evidence: [/^without a reboot the activation fails$/]
    },
    {
      name: "it soaks",
      arrange: soaking(),
      standing: "under-way",
      reason: "soaking",
      because: `it runs ${target} and soaks until ${at(soakMs)}`,
      earliestAfterMs: soakMs,
      evidence: [/^probe web passes$/]
    },
    {
      name: "its probe fails",
      arrange: soaking((plane, agent) => {
        plane.pass(minute)
        agent.tells(plane, { ...probe("fail", plane.now), failureReason: "status 500, expected 200" } as never)
      }),
      standing: "under-way",
      reason: "probe-failing",
      because: `it runs ${target}, and its probe web fails since ${at(minute)}, and says: status 500, expected 200`,
      clearedBy: /if it goes on failing the rollout fails on this host \(rollback-and-halt\)/
    },
    {
      name: "its soak is over, and it has not converged",
      arrange: soaking((plane, agent) => {
        plane.pass(soakMs)
        plane.heartbeat("h1", { digests: [agent.digest] })
      }),
      standing: "under-way",
      reason: "soak-over",
      because: `its soak is over since ${at(soakMs)}, and it has not said yet that it converged`
    },
    {
      name: "its soak is over, and a probe never passed",
      arrange: on((plane, agent) => {
        agent.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
        agent.tells(plane, {
          kind: "ActivationCompleted",
          observedCurrentClosure: target,
          exitCode: 0,
          completedAt: plane.now
        })
        agent.tells(plane, {
          kind: "ProbeTopologyDeclared",
          probes: [{ probeName: "web", kind: "http", mode: "enforce" }],
          declaredAt: plane.now
        })
        plane.pass(soakMs)
        plane.heartbeat("h1", { digests: [agent.digest] })
      }),
      standing: "under-way",
      reason: "health-unproven",
      because: `its soak is over since ${
        at(soakMs)
      }, but its health is not proven: probe web has not passed since the activation`
    },
    {
      name: "it is at its target",
      arrange: convergedAt(),
      standing: "at-target",
      reason: "at-target",
      because: `it has converged on ${target}`
    },
    {
      name: "somebody switched it after it had converged",
      arrange: convergedAt((plane, agent) => {
        plane.pass(minute)
        plane.heartbeat("h1", { digests: [agent.digest], current_closure: "0-by-hand" })
      }),
      standing: "under-way",
      reason: "other-closure-runs",
      because: `it converged on ${target} at ${at(soakMs)}, but runs 0-by-hand now: somebody else switched or booted it`
    },
    {
      name: "it goes back",
      arrange: soaking((plane, agent) => {
        agent.tells(plane, probe("fail", plane.now))
        plane.now += 2 * minute
        agent.tells(plane, probe("fail", plane.now))
        agent.tells(plane, {
          kind: "Failed",
          failedAt: plane.now,
          sustainedDurationSecs: 120,
          failingProbes: ["web"],
          policyApplied: "rollback-and-halt"
        })
      }),
      standing: "under-way",
      reason: "rolling-back",
      because: `${target} failed at ${at(2 * minute)}: its probe web failed for too long; it goes back to 0-before`
    },
    {
      name: "it went back",
      arrange: soaking((plane, agent) => agent.rollsBack(plane)),
      standing: "stopped",
      reason: "host-rolled-back",
      because: `${target} failed at ${at(2 * minute)}: its probe web failed for too long; ` +
        `it is back on 0-before since ${at(2 * minute)}`,
      clearedBy: /a repaired closure, published under a new ref; `nixfleet rollout clear stable@a1 --reason …`/
    },
    {
      name: "it failed, and stays as it is",
      arrange: () => {
        const halting: Release = { ...r1, onHealthFailure: "halt" }
        const plane = heard(halting)
        const agent = dispatched(plane, "h1")
        agent.accepts(plane)
        agent.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
        plane.post("h1", id, { kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: plane.now, seq: 3 })
        return plane
      },
      standing: "stopped",
      reason: "host-failed",
      because: `${target} failed at ${at(0)}: its activation failed; the host stays as it is`,
      evidence: [/^`nixfleet rollout events stable@a1 --json` has what its switch wrote$/]
    },
    {
      name: "a channel that comes first is complete by now, though nobody has looked",
      arrange: () => {
        const before: Release = { channel: "edge", ref: "e1", waves: [["e1"]] }
        const plane = heard(before, { ref: "a1", waves: [["h1"]], after: ["edge"] })
        const agent = dispatched(plane, "e1")
        agent.soaks(plane)
        // By a clock that is ahead of ours.
        const ahead = plane.now + 2 * minute
        plane.post("e1", idOf(before), {
          kind: "Converged",
          convergedAt: ahead,
          currentClosure: closureOf("e1", "e1"),
          seq: agent.record.lastEventSeq + 1
        })
        plane.now += soakMs
        return plane
      },
      standing: "under-way",
      reason: "next-look",
      because: `nothing holds it any more: it is dispatched at the planner's next look (the last was at ${at(0)})`
    },
    {
      name: "a host that is under way goes on, and the hold is told beside it",
      arrange: soaking((plane) => {
        plane.act({ action: "HoldHost", host: "h1", reason: "new disk", until: start + minute })
        plane.act({ action: "Freeze", channel: "stable", reason: "migration", until: start + minute })
      }),
      standing: "under-way",
      reason: "soaking",
      because: `it runs ${target} and soaks until ${at(soakMs)}`,
      earliestAfterMs: soakMs,
      evidence: [
        /^the host is held by alice until .*: "new disk"$/,
        /^its channel is frozen by alice until .*: "migration"$/
      ]
    },
    {
      name: "its rollout is complete without it, and it was released since",
      arrange: () => {
        const plane = completeWithout()
        plane.act({ action: "ReleaseHost", host: "h2", reason: "disk is there" })
        return plane
      },
      host: "h2",
      standing: "under-way",
      reason: "not-polled",
      because: `its dispatch is ready since ${at(soakMs)}, and the host has not polled since`
    },
    {
      name: "only time was missing, it is over, and nobody has looked yet",
      arrange: () => {
        const plane = new Plane()
        plane.publish(r1)
        plane.pass(0)
        plane.now += 150_000
        return plane
      },
      standing: "under-way",
      reason: "next-look",
      because: `nothing holds it any more: it is dispatched at the planner's next look (the last was at ${at(0)})`
    },
    {
      name: "it says that it is further than its events tell",
      arrange: on((plane, agent) => void plane.heartbeat("h1", { digests: [{ ...agent.digest, state: "Soaking" }] })),
      standing: "under-way",
      reason: "soaking",
      because: `it runs ${target} and soaks until ${at(soakMs)}`,
      earliestAfterMs: soakMs,
      evidence: [/^its own journal says that it is Soaking; by its events it is Activating$/]
    },
    {
      name: "going back failed as often as it may be tried",
      arrange: soaking((plane, agent) => {
        agent.tells(plane, probe("fail", plane.now))
        plane.now += 2 * minute
        agent.tells(plane, probe("fail", plane.now))
        agent.tells(plane, {
          kind: "Failed",
          failedAt: plane.now,
          sustainedDurationSecs: 120,
          failingProbes: ["web"],
          policyApplied: "rollback-and-halt"
        })
        for (let tried = 0; tried < 3; tried++) {
          agent.tells(plane, { kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: plane.now })
        }
      }),
      standing: "stopped",
      reason: "rollback-exhausted",
      because: `${target} failed at ${at(2 * minute)}: its probe web failed for too long; going back failed 3 times`,
      clearedBy: /^somebody on the host: bring it to a system that works; then an operator: /
    },
    {
      name: "the guard took it back",
      arrange: soaking((plane, agent) => {
        agent.tells(plane, {
          kind: "Failed",
          failedAt: plane.now,
          sustainedDurationSecs: 0,
          failingProbes: [],
          policyApplied: "rollback-and-halt",
          cause: "guard-fired"
        })
        agent.tells(plane, {
          kind: "RollbackComplete",
          revertedToClosure: "0-before",
          exitCode: 0,
          completedAt: plane.now
        })
      }),
      standing: "stopped",
      reason: "host-rolled-back",
      because: `${target} failed at ${at(0)}: the agent gave no sign of life, and the guard took the host back; ` +
        `it is back on 0-before since ${at(0)}`
    },
    {
      name: "its rollout is to be opened again, and nobody has looked yet",
      arrange: toBeOpened,
      standing: "under-way",
      reason: "next-look",
      because: "stable@a1 is in force and is about to be opened: it is dispatched at the planner's next look " +
        `(the last was at ${at(soakMs)})`
    },
    {
      name: "its record and its own word differ",
      arrange: convergedAt((plane, agent) => {
        const seq = agent.record.lastEventSeq + 1
        plane.post("h1", id, {
          kind: "ActivationDeferred",
          component: "kernel",
          deferredAt: plane.now,
          seq,
          attempt: 1
        })
      }),
      standing: "under-way",
      reason: "diverged",
      because: "it reports something else than its record",
      clearedBy: /^the host, with a heartbeat that agrees with the record/
    },
    {
      name: "somebody else switched it while it soaked",
      arrange: soaking((plane, agent) => {
        agent.tells(plane, {
          kind: "Failed",
          failedAt: plane.now,
          sustainedDurationSecs: 60,
          failingProbes: [],
          policyApplied: "halt",
          cause: "closure-drift"
        })
      }),
      standing: "stopped",
      reason: "host-failed",
      because: `${target} failed at ${at(0)}: somebody else switched the host while it soaked; the host stays as it is`,
      clearedBy: /^an operator: `nixfleet rollout clear stable@a1 --reason …` tries this one again; or a new ref/
    },
    {
      name: "a host that is busy with the release before is told to be",
      arrange: soaking((plane) => plane.publish({ ref: "b2", waves: [["h1"]], signedAt: start + 1 })),
      standing: "under-way",
      reason: "not-polled",
      because: `its dispatch is ready since ${at(0)}, and the host has not polled since`,
      evidence: [/^it is still Soaking in stable@a1$/]
    },
    {
      name: "what it ran before it converged is no other closure now",
      arrange: soaking((plane, agent) => {
        plane.pass(soakMs)
        plane.heartbeat("h1", { digests: [agent.digest], current_closure: "0-before" })
        agent.converges(plane)
      }),
      standing: "at-target",
      reason: "at-target",
      because: `it has converged on ${target}`
    },
    {
      name: "a host whose clock is ahead counts for its wave by ours",
      arrange: soaking((plane, agent) => {
        plane.post("h1", id, {
          kind: "Converged",
          convergedAt: plane.now,
          currentClosure: target,
          seq: agent.record.lastEventSeq + 1
        })
      }),
      standing: "at-target",
      reason: "at-target",
      because: `it has converged on ${target}`,
      evidence: [/^it counts for its wave when its soak is over by the clock of the control plane$/]
    },
    {
      name: "a pinned host is at its target, and its pin is told",
      arrange: () => {
        const pin = { commit: "0f3c9a01", reason: "old board", expiresAt: start + minute }
        const plane = changed((unit) => withHost(unit, "h1", { pin }))
        const agent = dispatched(plane, "h1")
        agent.soaks(plane)
        plane.pass(soakMs)
        agent.converges(plane)
        return plane
      },
      standing: "at-target",
      reason: "at-target",
      because: `it has converged on ${target}`,
      evidence: [/^the fleet pins it to 0f3c9a01 \(old board\); end of the pin$/]
    }
  ])
})
