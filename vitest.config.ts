import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Half of the time is spent waiting for real processes and clocks: two cores are not busy with one file at a time.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    // Real processes, signals and sockets are slow on two cores; unit tests do not come near this.
    testTimeout: 60_000,
    hookTimeout: 60_000
  }
})
