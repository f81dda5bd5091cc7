/** Channels that come before others (D15): in which order a pass plans them, and what of them is not complete yet. */
import { named, shownHosts } from "../gates/Words.ts"
import { isLive } from "../Rollout.ts"
import { opening } from "./Opening.ts"
import type { ChannelView, PlanView, Predecessor, RolloutView, WaveReport } from "./View.ts"
import { failedIn, hostsByWave, reportWave } from "./Waves.ts"

/** Each after those that it waits for, otherwise by name; a circle is entered at its first name. */
export function predecessorsFirst(channels: ReadonlyArray<ChannelView>): ReadonlyArray<ChannelView> {
  const open = new Map(channels.toSorted((a, b) => a.channel < b.channel ? -1 : 1).map((one) => [one.channel, one]))
  const ordered: Array<ChannelView> = []
  const visit = (channel: ChannelView) => {
    open.delete(channel.channel)
    for (const { gates } of channel.after) {
      const before = open.get(gates)
      if (before !== undefined) visit(before)
    }
    ordered.push(channel)
  }
  // What is visited leaves the map, and is not met again.
  for (const channel of open.values()) visit(channel)
  return ordered
}

/** Where a channel's rollout stands at the end of its part of the pass. */
export interface Standing {
  readonly rollout: RolloutView
  readonly report: WaveReport
}

type Hold = Omit<Predecessor, "channel" | "reason">

/** Predecessors that are not complete, in the order of the edges. `planned`: what this pass has planned already. */
export function incomplete(
  view: PlanView,
  { after }: ChannelView,
  planned: ReadonlyMap<string, Standing>
): ReadonlyArray<Predecessor> {
  return after.flatMap(({ gates, reason }) => {
    const hold = holdOf(view, gates, planned.get(gates))
    return hold === undefined ? [] : [{ channel: gates, ...(reason === undefined ? {} : { reason }), ...hold }]
  })
}

function holdOf(view: PlanView, name: string, planned: Standing | undefined): Hold | undefined {
  if (planned !== undefined) return holdOfRollout(planned)
  const channel = view.channelOf(name)
  if (channel === undefined) {
    return {
      because: "the fleet has no such channel",
      clearedBy: "publishing a fleet that declares it, or not the edge"
    }
  }
  const { isEmpty, manifest } = channel
  if (manifest === undefined) {
    return isEmpty ? undefined : {
      because: "no verified manifest of it is in force, so nobody knows how far it is",
      clearedBy: `publishing a manifest of channel ${name} that verifies`
    }
  }
  const known = view.rolloutOf(manifest.rolloutId)
  const due = opening(channel, manifest, known, view)
  if (known === undefined || due?._tag === "Open" || due?._tag === "Reopen") {
    return { because: `${manifest.rolloutId} has not begun`, clearedBy: `completion of ${manifest.rolloutId}` }
  }
  return holdOfRollout({ rollout: known, report: reportWave(known, hostsByWave(known.plan), view.now) })
}

function holdOfRollout({ report, rollout }: Standing): Hold | undefined {
  const { record } = rollout
  // A tombstone of what was complete says so for good (P-19).
  if (record.state === "Terminal" || (record.state === "Pruned" && record.terminalAt !== undefined)) return undefined
  const { rolloutId, state } = record
  if (!isLive(state)) {
    const failed = failedIn(rollout, hostsByWave(rollout.plan))
    return {
      because: `${rolloutId} is ${state}${failed.length === 0 ? "" : `, because ${named(failed)} failed`}`,
      clearedBy: `a new ref on channel ${record.channel}${
        state === "Failed" || state === "Reverted"
          ? `, or nixfleet rollout clear ${rolloutId} once the cause is repaired; and its completion`
          : ", and its completion"
      }`,
      hosts: failed.slice(0, shownHosts)
    }
  }
  const first = report.waitsFor[0]
  const isLast = report.wave + 1 >= report.waves
  return {
    because: `${rolloutId} is in wave ${report.wave + 1} of ${report.waves}` +
      (first === undefined ? "" : `: ${first.hostname} ${first.because}`),
    clearedBy: `completion of ${rolloutId}`,
    hosts: report.waitsFor.map(({ hostname }) => hostname),
    ...(isLast && report.earliestAt !== undefined ? { earliestAt: report.earliestAt } : {})
  }
}
