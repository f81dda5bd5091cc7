/** Which words of Nix at the start need a person, and which only another start: with a program that stands in for Nix. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Activator } from "../../../../src/Layers/Host/Activator.ts"
import { nixOf } from "../../../../src/Layers/Host/nix/Nix.ts"
import * as NixActivator from "../../../../src/Layers/Host/nix/NixActivator.ts"
import { temporaryDirectory } from "../../../support/directories.ts"

/** How the agent's start fails where `nix` is this shell program, and may take two seconds. */
const startWith = (program: string, mode = 0o755) =>
  Effect.gen(function*() {
    const root = yield* temporaryDirectory
    writeFileSync(join(root, "nix"), `#!/bin/sh\n${program}\n`, { mode })
    const nix = nixOf({ PATH: root })
    const layer = NixActivator.layer(NixActivator.nixActivatorConfig({
      environment: {},
      recordsDir: join(root, "switches"),
      nix: {
        ...nix,
        command: (name, args, more) => ({
          ...nix.command(name === "nix" ? join(root, name) : name, args, more),
          limitMs: 2000
        })
      }
    }))
    return yield* Effect.flip(Effect.provide(Activator, layer))
  })

describe("the agent's start", () => {
  const table: ReadonlyArray<readonly [string, string, string]> = [
    ["whose Nix is killed is tried again", "kill -KILL $$", "NixSilent"],
    ["whose Nix takes too long is tried again", "exec sleep 20", "NixSilent"],
    ["whose Nix refuses its configuration needs a person", "echo bad >&2; exit 1", "NixUnusable"],
    ["whose Nix says something unexpected needs a person", "echo '{}'", "NixUnusable"],
    [
      "whose Nix knows only the newer command, on which it is killed, is tried again",
      `case "$*" in *show-config*) exit 1 ;; *) kill -KILL $$ ;; esac`,
      "NixSilent"
    ]
  ]
  it.live.each(table)(
    "%s",
    ([, program, tag]) =>
      Effect.map(startWith(program), (problem) => assert.strictEqual(problem._tag, tag, problem.message))
  )

  it.live("without a Nix that can be run needs a person", () =>
    Effect.map(startWith("exit 0", 0o644), (problem) => assert.strictEqual(problem._tag, "NixUnusable")))
})
