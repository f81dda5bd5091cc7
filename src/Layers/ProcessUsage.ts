/** What this process has used so far, as the kernel and the event loop count it. Read anew at each call. */
import { Context } from "effect"
import { performance } from "node:perf_hooks"
import { cpuUsage, memoryUsage } from "node:process"

export interface Usage {
  /** When the process began, epoch seconds. */
  readonly startedAtSeconds: number
  /** User and system time. */
  readonly cpuSeconds: number
  readonly residentBytes: number
  readonly heapUsedBytes: number
  /** Time that the event loop was at work, and time that it waited for something to do; their share is its load. */
  readonly loopActiveSeconds: number
  readonly loopIdleSeconds: number
}

export const processUsage = (): Usage => {
  const { system, user } = cpuUsage()
  const { heapUsed, rss } = memoryUsage()
  const { active, idle } = performance.eventLoopUtilization()
  return {
    startedAtSeconds: performance.timeOrigin / 1000,
    cpuSeconds: (user + system) / 1_000_000,
    residentBytes: rss,
    heapUsedBytes: heapUsed,
    loopActiveSeconds: active / 1000,
    loopIdleSeconds: idle / 1000
  }
}

/** A value that a test can replace. */
export const ProcessUsage = Context.Reference<() => Usage>("nixfleet/Layers/ProcessUsage", {
  defaultValue: () => processUsage
})
