/**
 * Collects garbage on SIGUSR2, so that the memory of the process is what it needs, and says in a line how much of the heap is
 * in use then. Imported by what is measured.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect: unknown = runInNewContext("gc")
process.on("SIGUSR2", () => {
  if (typeof collect === "function") collect()
  console.log(JSON.stringify({ message: "collected", heapUsed: process.memoryUsage().heapUsed }))
})
