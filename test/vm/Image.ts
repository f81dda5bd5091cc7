/**
 * The disk of the machine: a Debian made once by debootstrap, and on it what `guest/` holds and what a run adds. Needs root.
 */
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, globSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"

/** Of a machine that boots. */
export const machinePackages = [
  "systemd",
  "systemd-sysv",
  "dbus",
  "kmod",
  "iproute2",
  "nix-bin",
  "linux-image-cloud-amd64"
]
const size = "3G"

function must(program: string, args: ReadonlyArray<string>): void {
  const { error, status, stderr, stdout } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 100_000_000 })
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? ""}${stdout}${stderr}`)
}

/** A Debian in `directory`; made when it is not there, which takes a minute. */
export function makeDebian(
  directory: string,
  suite: string,
  mirror: string,
  packages: ReadonlyArray<string>
): void {
  if (existsSync(directory)) return
  const making = `${directory}.new`
  rmSync(making, { recursive: true, force: true })
  must("debootstrap", ["--variant=minbase", `--include=${packages.join(",")}`, suite, making, mirror])
  for (const path of ["var/cache/apt", "var/lib/apt/lists"]) rmSync(join(making, path), { recursive: true })
  // Nix makes it at its first use, which in the agent's unit would be too late.
  mkdirSync(join(making, "nix"))
  renameSync(making, directory)
}

/** What a run puts on the disk. */
export interface Addition {
  /** Where on the disk. */
  readonly path: string
  readonly content: string | { readonly copyOf: string }
  readonly mode?: number
}

export interface Boot {
  readonly kernel: string
  readonly initrd: string
  /** Raw image of the root file system. */
  readonly disk: string
}

/** Writes `disk` from the Debian and the additions; the units named are started at each boot. */
export function makeImage(
  debian: string,
  disk: string,
  additions: ReadonlyArray<Addition>,
  units: ReadonlyArray<string>
): Boot {
  const at = (path: string) => join(debian, path)
  cpSync(join(import.meta.dirname, "guest"), debian, { recursive: true })
  for (const { content, mode = 0o644, path } of additions) {
    mkdirSync(dirname(at(path)), { recursive: true })
    if (typeof content === "string") writeFileSync(at(path), content, { mode })
    else cpSync(content.copyOf, at(path))
  }
  for (const unit of units) {
    const link = at(`etc/systemd/system/multi-user.target.wants/${unit}`)
    mkdirSync(dirname(link), { recursive: true })
    rmSync(link, { force: true })
    symlinkSync(`/etc/systemd/system/${unit}`, link)
  }
  rmSync(disk, { force: true })
  must("mke2fs", ["-q", "-t", "ext4", "-d", debian, disk, size])
  const only = (pattern: string): string => {
    const [found] = globSync(pattern, { cwd: debian }).toSorted().toReversed()
    if (found === undefined) throw new Error(`${debian} has no ${pattern}`)
    return at(found)
  }
  return { kernel: only("boot/vmlinuz-*"), initrd: only("boot/initrd.img-*"), disk }
}
