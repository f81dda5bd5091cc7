/** Real directories for tests: made anew, gone with the test's scope. */
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** An empty directory of mode 0700. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "nixfleet-test-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/**
 * Why small file systems cannot be mounted here; `undefined` when they can (Linux, root, allowed to mount). Tests of a full
 * disk are skipped then, with the reason printed; in CI they must run.
 */
export const noMounts: string | undefined = (() => {
  const directory = mkdtempSync(join(tmpdir(), "nixfleet-mount-"))
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", directory]).status === 0
  if (mounted) spawnSync("umount", [directory])
  rmSync(directory, { recursive: true, force: true })
  if (mounted) return undefined
  const reason = "tests of a full disk need the right to mount a tmpfs"
  if (process.env["CI"] !== undefined) throw new Error(reason)
  console.log(`skipped: ${reason}`)
  return reason
})()

/** Writes a small file system full, to the last byte that anybody may have; a file that was there makes room first. */
export function fillDisk(directory: string): void {
  spawnSync("dd", ["if=/dev/zero", `of=${join(directory, "ballast")}`, "bs=4k"])
  // What is too small for a block of `dd` is found by smaller ones.
  spawnSync("dd", ["if=/dev/zero", `of=${join(directory, "ballast-rest")}`, "bs=64"])
}

/** Gives back what `fillDisk` took. */
export function freeDisk(directory: string): void {
  for (const name of ["ballast", "ballast-rest"]) rmSync(join(directory, name), { force: true })
}

/** Makes a small file system read-only, or writable again; nobody may have a file of it open for writing. */
export function remount(directory: string, how: "ro" | "rw"): void {
  const { status, stderr } = spawnSync("mount", ["-o", `remount,${how}`, directory], { encoding: "utf8" })
  if (status !== 0) throw new Error(`remount,${how}: ${stderr}`)
}

/** A file system of its own of `bytes`. */
export const smallDisk = (bytes: number) =>
  Effect.acquireRelease(
    Effect.map(temporaryDirectory, (directory) => {
      spawnSync("mount", ["-t", "tmpfs", "-o", `size=${bytes},mode=0700`, "tmpfs", directory])
      return directory
    }),
    // Lazily: a process that was killed a moment ago may still have a file of it open.
    (directory) => Effect.sync(() => spawnSync("umount", ["-l", directory]))
  )
