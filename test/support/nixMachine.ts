/**
 * Hosts with a real Nix, as many as a test wants: each has a store of its own in a directory and sees the same `/nix/store`
 * paths. The driver runs in the test's process (`NIX_REMOTE=local?root=…`, no privileges), or a whole agent in a
 * namespace where that store is `/nix` (bubblewrap).
 */
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { chmodSync, mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { type Builder, nixConf, removeStore } from "../../examples/nix/Builder.ts"
import { namespace } from "../../examples/nix/Namespace.ts"
import * as NixActivator from "../../src/Layers/Host/nix/NixActivator.ts"
import { temporaryDirectory } from "./directories.ts"

const run = promisify(execFile)

/** Where hosts find Nix: `NIXFLEET_TEST_NIX` names a directory with the programs of another version. */
const searchPath = [process.env["NIXFLEET_TEST_NIX"], "/usr/bin:/bin"].filter((part) => part !== undefined).join(":")

export interface NixMachineOptions {
  /** Whose key it trusts. */
  readonly builder: Builder
  readonly substituters: ReadonlyArray<string>
  /** More lines of its nix.conf; later ones win. */
  readonly conf?: ReadonlyArray<string>
  readonly over?: Partial<NixActivator.NixActivatorConfig>
  /** More variables of the agent's environment. */
  readonly environment?: Readonly<Record<string, string>>
}

/** A host that has nothing yet. Its switches may run for two seconds; each notes its start in `runsFile`. */
export const makeNixMachine = ({ builder, conf = [], environment = {}, over = {}, substituters }: NixMachineOptions) =>
  Effect.gen(function*() {
    const root = yield* temporaryDirectory
    yield* Effect.addFinalizer(() => Effect.sync(() => removeStore(root)))
    const key = yield* Effect.promise(() => builder.trustedKey)
    for (const name of ["etc", "home", "nix", "run"]) mkdirSync(join(root, name))
    const writeConf = (lines: ReadonlyArray<string>) =>
      writeFileSync(
        join(root, "etc/nix.conf"),
        nixConf([`substituters = ${substituters.join(" ")}`, `trusted-public-keys = ${key}`, ...lines])
      )
    writeConf(conf)
    const runsFile = join(root, "runs")
    const variables = {
      NIX_REMOTE: `local?root=${root}`,
      NIX_CONF_DIR: join(root, "etc"),
      HOME: join(root, "home"),
      PATH: searchPath,
      ...environment
    }
    const config = NixActivator.nixActivatorConfig({
      environment: variables,
      recordsDir: join(root, "switches"),
      runDir: join(root, "run"),
      connectTimeoutSecs: 2,
      stallTimeoutSecs: 2,
      downloadAttempts: 1,
      realiseTimeoutMs: 20_000,
      switchTimeoutMs: 2000,
      switchGraceMs: 500,
      switchEnvironment: { PATH: "/usr/bin:/bin", RUNS: runsFile },
      ...over
    })
    /** A command of Nix by hand; not waited for in the way of the cache, which is served by this process. */
    const nix = (...[program, ...args]: readonly [string, ...Array<string>]) =>
      Effect.promise(() =>
        run(program, args, { env: variables }).then(
          ({ stdout }) => ({ ok: true, stdout: stdout.trim() }),
          () => ({ ok: false, stdout: "" })
        )
      )
    /**
     * A program that is the agent of this host where its store is `/nix` and its `run` is `/run`. `shared`: directories
     * that it needs besides.
     */
    const agentProgram = (shared: ReadonlyArray<string>): string => {
      const checkout = join(import.meta.dirname, "../..")
      const command = [process.execPath, join(checkout, "src/Main.ts")]
      const writable = [root, checkout, dirname(process.execPath), ...shared]
      const args = namespace({ nix: join(root, "nix"), run: join(root, "run"), writable }, command)
      const program = join(root, "agent")
      const quoted = args.map((word) => `'${word}'`).join(" ")
      writeFileSync(
        program,
        `#!/bin/sh\nexport NIX_CONF_DIR='${join(root, "etc")}' HOME=/root\nexec bwrap ${quoted} "$@"\n`
      )
      chmodSync(program, 0o755)
      return program
    }
    return { root, agentProgram, config, variables, runsFile, nix, writeConf, layer: NixActivator.layer(config) }
  })
