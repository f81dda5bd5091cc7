/** What these programs need of the machine that they run on, said in one line when it is missing. */
import { spawnSync } from "node:child_process"

/** A program of each Debian package. */
const programs = {
  bubblewrap: "bwrap",
  debootstrap: "debootstrap",
  e2fsprogs: "mke2fs",
  "nix-bin": "nix-store",
  nbdkit: "nbdkit",
  "qemu-system-x86": "qemu-system-x86_64"
} as const

/** Ends this program unless it is root's and these packages are installed. */
export function requireHost(packages: ReadonlyArray<keyof typeof programs>): void {
  if (process.getuid?.() !== 0) {
    console.error("This makes a Debian, with the files of all its users: run it as root.")
    process.exit(77)
  }
  const missing = packages.filter((name) => spawnSync("/bin/sh", ["-c", `command -v ${programs[name]}`]).status !== 0)
  if (missing.length === 0) return
  console.error(`Missing: apt-get install --no-install-recommends ${missing.join(" ")}`)
  process.exit(69)
}
