/** Hosts that unpack archives: a directory each, on any Linux machine. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Layout } from "./Fleet.ts"
import type { HostDriver } from "./HostDriver.ts"
import { nodeCommand, runOnce } from "./Processes.ts"

export function archiveHosts(layout: Layout, nixfleet: string, agent: string): HostDriver {
  const closures = join(layout.root, "closures")
  mkdirSync(closures)
  const systemDir = (host: string) => join(layout.root, "hosts", host, "system")
  return {
    made: "packed",
    makeClosure: async (name, status) => {
      const folder = join(layout.root, "closure-sources", name)
      mkdirSync(join(folder, "bin"), { recursive: true })
      mkdirSync(join(folder, "etc"), { recursive: true })
      writeFileSync(join(folder, "etc", "web-status"), `${status}\n`)
      const script = join(folder, "bin", "switch-to-configuration")
      writeFileSync(script, `#!/bin/sh\necho "switching to ${name}"\nsleep 0.3\n`)
      chmodSync(script, 0o755)
      return (await runOnce(nixfleet, ["closure", "pack", folder, "--name", name, "--out", closures])).trim()
    },
    runningSystem: (host) => join(systemDir(host), "current-system"),
    agentFlags: (host) => ({ "system-dir": systemDir(host), "archive-source": closures }),
    agent: (_host, args) => nodeCommand(agent, args),
    leftBehind: (host) => [["ls -l", `hosts/${host}/system/profiles`]],
    close: () => {}
  }
}
