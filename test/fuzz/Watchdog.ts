/**
 * Ends the process when one case never returns: a second thread looks whether the first one still makes progress, and
 * tells which case it was. What they share is memory, for nobody can be asked any more.
 */
import { Effect } from "effect"
import { Worker } from "node:worker_threads"

export interface Watch {
  /** `label` is all that will be known of a case that does not return. */
  readonly begin: (label: string) => void
  readonly end: () => void
}

/** No progress for so long is a hang. Larger than the time limit of one case, which fails with more kindness. */
export const defaultHangMs = 20_000
const labelBytes = 1024

// Plain JavaScript: the thread gets no transformer of the test runner. Numbers: cases begun, inside of one, a place to wait.
const program = `
  const { cells, hangMs, label } = require("node:worker_threads").workerData
  const { writeSync } = require("node:fs")
  for (;;) {
    const seen = Atomics.load(cells, 0)
    Atomics.wait(cells, 2, 0, hangMs)
    if (Atomics.load(cells, 0) !== seen || Atomics.load(cells, 1) === 0) continue
    writeSync(2, "\\nno end after " + hangMs + " ms: " + Buffer.from(label).toString().replace(/\\0+$/, "") + "\\n")
    process.kill(process.pid, "SIGKILL")
  }
`

/** For the rest of the scope. */
export const makeWatch = Effect.fnUntraced(function*(hangMs: number = defaultHangMs) {
  const cells = new Int32Array(new SharedArrayBuffer(12))
  const label = new Uint8Array(new SharedArrayBuffer(labelBytes))
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const worker = new Worker(program, { eval: true, execArgv: [], workerData: { cells, hangMs, label } })
      worker.unref()
      return worker
    }),
    (worker) => Effect.promise(() => worker.terminate())
  )
  const watch: Watch = {
    begin: (text) => {
      label.fill(0)
      label.set(Buffer.from(text.slice(0, labelBytes / 4)))
      Atomics.add(cells, 0, 1)
      Atomics.store(cells, 1, 1)
    },
    end: () => {
      Atomics.store(cells, 1, 0)
    }
  }
  return watch
})
