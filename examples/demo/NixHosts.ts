/**
 * Hosts with a real Nix: for each a namespace (bubblewrap) with a store, a `/run` and processes of its own, in which the agent
 * runs as on any host of Nix. Systems are built offline by a machine of the same kind and fetched from a signed binary
 * cache over HTTP.
 */
import { mkdirSync, readlinkSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { serveFiles } from "../nix/BinaryCache.ts"
import { Builder, moveLink, nixConf } from "../nix/Builder.ts"
import { hostPath, namespace } from "../nix/Namespace.ts"
import { hosts, type Layout } from "./Fleet.ts"
import type { HostDriver } from "./HostDriver.ts"

/**
 * The first process of a host: runs the agent, asks it to end when nobody holds this program's input any more, and ends as the
 * agent did. All that is left in the namespace ends with it, as when a machine is switched off.
 */
const init = `exec 3<&0
"$@" </dev/null 3<&- &
agent=$!
{ read -r _ <&3; kill -TERM "$agent"; } &
wait "$agent"`

/** `agent`: the bundle, in a directory that every host may read. */
export async function nixHosts(layout: Layout, agent: string): Promise<HostDriver & { readonly cacheUrl: string }> {
  const folder = (host: string, name = "") => join(layout.root, "hosts", host, name)
  const builderFolder = join(layout.root, "builder")
  mkdirSync(builderFolder)
  const builder = new Builder(builderFolder)
  const key = await builder.trustedKey
  const cache = await serveFiles(builder.cache)
  for (const [host] of hosts) {
    for (const name of ["etc", "home", "nix", "run"]) mkdirSync(folder(host, name), { recursive: true })
    writeFileSync(
      join(folder(host, "etc"), "nix.conf"),
      nixConf([`substituters = ${cache.url}`, `trusted-public-keys = ${key}`])
    )
  }
  const publish = (name: string, status: number, signedBy: "trusted" | "other") =>
    builder.publish({
      name,
      program: `#!/bin/sh\necho "switching to ${name}"\nsleep 0.3\n${moveLink}`,
      extra: `mkdir $out/etc; echo ${status} >$out/etc/web-status`,
      compression: "zstd",
      key: signedBy
    })
  return {
    cacheUrl: cache.url,
    made: "built",
    makeClosure: (name, status) => publish(name, status, "trusted"),
    makeForeignClosure: (name) => publish(name, 200, "other"),
    // The link is right inside the host; outside, its store is elsewhere.
    runningSystem: (host) =>
      join(folder(host, "nix"), "store", basename(readlinkSync(join(folder(host, "run"), "current-system")))),
    agentFlags: () => ({ "driver": "nix" }),
    agent: (host, args) => {
      const identity = layout.identity.get(host)!
      const place = {
        nix: folder(host, "nix"),
        run: folder(host, "run"),
        home: folder(host, "home"),
        hostname: host,
        readable: [dirname(process.execPath), dirname(agent), layout.trust, layout.ca, identity.cert, identity.key],
        writable: [folder(host)]
      }
      const command = ["/bin/sh", "-c", init, "init", process.execPath, agent, ...args]
      return {
        program: "bwrap",
        args: namespace(place, command),
        environment: { PATH: hostPath, HOME: "/root", NIX_CONF_DIR: folder(host, "etc") },
        endsWith: "input"
      }
    },
    leftBehind: (host) => [
      ["ls -l", `hosts/${host}/nix/var/nix/profiles`],
      ["ls -l", `hosts/${host}/run/current-system`],
      ["ls", "builder/cache"]
    ],
    close: cache.close
  }
}
