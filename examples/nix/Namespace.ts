/**
 * Hosts with a `/nix`, a `/run` and a `/root` of their own on one machine, by bubblewrap: a command sees the programs of this
 * machine, its own directories where a host has them, and nothing else but what it is given. The network is shared.
 */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export interface Namespace {
  /** Directory that is `/nix`. */
  readonly nix: string
  /** Directories that are `/run` and `/root`; without them the first is not there and the second is in memory. */
  readonly run?: string
  readonly home?: string
  /** Files and directories that it sees where they are, and may only read, or write. */
  readonly readable?: ReadonlyArray<string>
  readonly writable?: ReadonlyArray<string>
  /**
   * Name of a machine of its own: all its processes end with its first one. Without it its processes are those of this
   * machine, so that what it detaches outlives it.
   */
  readonly hostname?: string
}

const binds = (option: string, paths: ReadonlyArray<string>): ReadonlyArray<string> =>
  paths.flatMap((path) => [option, path, path])

const bindAt = (place: string, directory: string | undefined): ReadonlyArray<string> =>
  directory === undefined ? [] : ["--bind", directory, place]

/** Arguments of `bwrap` that run a command there. */
export const namespace = (
  { home, hostname, nix, readable = [], run, writable = [] }: Namespace,
  command: ReadonlyArray<string>
): ReadonlyArray<string> =>
  [
    ["--die-with-parent", "--tmpfs", "/", "--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"],
    ["bin", "lib", "lib64", "sbin"].flatMap((name) => ["--symlink", `usr/${name}`, `/${name}`]),
    hostname === undefined
      ? ["--ro-bind", "/proc", "/proc"]
      : ["--unshare-pid", "--unshare-uts", "--hostname", hostname, "--proc", "/proc"],
    ["--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/root"],
    binds("--ro-bind", readable),
    binds("--bind", writable),
    bindAt("/nix", nix),
    bindAt("/run", run),
    bindAt("/root", home),
    command
  ].flat()

/** What a host finds on its path, and nothing of the environment of whoever starts it. */
export const hostPath = "/usr/bin:/bin"

/** Looked for, not run: outside of a namespace Nix would make a store of this machine. */
const isInstalled = (program: string): boolean => spawnSync("/bin/sh", ["-c", `command -v ${program}`]).status === 0

/** Why there can be no such hosts here, in one sentence; `undefined` when there can. */
export function noHosts(): string | undefined {
  const missing = ([["nix-store", "nix-bin"], ["bwrap", "bubblewrap"]] as const)
    .filter(([program]) => !isInstalled(program)).map(([, name]) => name)
  if (missing.length > 0) {
    return `${missing.join(" and ")} ${
      missing.length === 1 ? "is" : "are"
    } not installed: apt-get install nix-bin bubblewrap`
  }
  const store = mkdtempSync(join(tmpdir(), "nixfleet-probe-"))
  const args = namespace({ nix: store, hostname: "probe" }, ["nix-store", "--version"])
  const { status, stderr } = spawnSync("bwrap", args, { encoding: "utf8", env: { PATH: hostPath, HOME: "/root" } })
  rmSync(store, { recursive: true, force: true })
  return status === 0
    ? undefined
    : `bubblewrap is installed, but cannot make a host with Nix here: ${stderr.trim().split("\n")[0] ?? ""}`
}
