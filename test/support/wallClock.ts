/**
 * A wall clock that a test can step while a real process runs. `steppable` gives the environment of the process, which then
 * preloads this very file (`node --import`): its `Date` is ahead by as many milliseconds as a file says, read anew at each
 * question. Nothing needs to be installed for it.
 *
 * It reaches all that asks in JavaScript what time it is, and so Effect's clock. It does not reach monotonic clocks and timers,
 * which no step moves on a real host either; nor, unlike a real step, what asks the kernel: OpenSSL when it judges a certificate
 * in a handshake, times of files, and child processes (the switch's supervisor uses none).
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs"

const variable = "NIXFLEET_TEST_CLOCK"

export const hour = 3_600_000
export const year = 365 * 24 * hour

/** The environment of a process whose wall clock is ahead by what `file` says. */
export const steppable = (file: string): Readonly<Record<string, string>> => ({
  [variable]: file,
  NODE_OPTIONS: `--import ${import.meta.filename}`
})

/** From now on the clock is ahead of the true one by `aheadMs`; by a rename, so that nobody reads half a number. */
export function setAhead(file: string, aheadMs: number): void {
  writeFileSync(`${file}.new`, String(aheadMs))
  renameSync(`${file}.new`, file)
}

function install(file: string): void {
  const real = Date
  const now = () => {
    try {
      return real.now() + Number(readFileSync(file, "utf8"))
    } catch {
      return real.now()
    }
  }
  globalThis.Date = new Proxy(real, {
    apply: () => new real(now()).toString(),
    construct: (target, given, newTarget) => Reflect.construct(target, given.length === 0 ? [now()] : given, newTarget),
    get: (target, key, receiver) => key === "now" ? now : Reflect.get(target, key, receiver)
  })
}

const file = process.env[variable]
if (file !== undefined) install(file)
