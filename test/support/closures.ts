/** Closures for tests: directories whose switch behaves in a chosen way, packed into a source directory. */
import { Effect } from "effect"
import { chmod, mkdir, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { packClosure } from "../../src/Layers/Host/ArchivePack.ts"
import { temporaryDirectory } from "./directories.ts"

/** Shell programs in the place of a real switch. Each notes its start in `$RUNS`, when that is set. */
export const switches = {
  good: "exit 0",
  fails: "echo 'activation failed' >&2; exit 1",
  usage: "exit 2",
  partly: "echo 'warning: the following units failed: toy.service' >&2; exit 4",
  reboot: "exit 100",
  hangs: "sleep 60 & wait",
  slow: "sleep 1",
  stubborn: "trap '' TERM; while :; do sleep 0.1; done"
} as const
export type SwitchKind = keyof typeof switches

export const switchProgram = (body: string): string =>
  `#!/bin/sh\n[ -z "\${RUNS:-}" ] || echo "$NIXFLEET_CLOSURE $1" >>"$RUNS"\n${body}\n`

/** Writes files below `root`; a `bin/` path is executable. */
export async function writeTree(root: string, files: Readonly<Record<string, string>>): Promise<string> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
    if (path.includes("bin/")) await chmod(join(root, path), 0o755)
  }
  return root
}

/** Packs a closure whose switch runs `body` into `source`; answers its name. */
export const publishClosure = (source: string, name: string, body: string) =>
  Effect.scoped(Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    yield* Effect.promise(() =>
      writeTree(directory, {
        "bin/switch-to-configuration": switchProgram(body),
        "etc/version": name,
        "share/data": "x".repeat(100_000)
      })
    )
    return yield* packClosure(directory, name, source)
  }))
