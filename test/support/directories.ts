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

/** A file system of its own of `bytes`. */
export const smallDisk = (bytes: number) =>
  Effect.acquireRelease(
    Effect.map(temporaryDirectory, (directory) => {
      spawnSync("mount", ["-t", "tmpfs", "-o", `size=${bytes},mode=0700`, "tmpfs", directory])
      return directory
    }),
    (directory) => Effect.sync(() => spawnSync("umount", [directory]))
  )
