/**
 * What work in the bench's own process costs, milliseconds: CPU of its main thread by the kernel's accounting, which on a quiet
 * machine is the time it takes, and on a busy one is not what the others take. What came before is collected first.
 */
export async function cpuMsOf(work: () => Promise<void> | void): Promise<number> {
  globalThis.gc?.()
  const before = process.threadCpuUsage()
  await work()
  const { system, user } = process.threadCpuUsage(before)
  return (user + system) / 1000
}
