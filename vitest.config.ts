import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Real processes, signals and sockets are slow on two cores; unit tests do not come near this.
    testTimeout: 60_000,
    hookTimeout: 60_000
  }
})
