/** Hosts with a real Nix that trust the builder of the test file. */
import { Effect } from "effect"
import { join } from "node:path"
import { Activator } from "../../src/Layers/Host/Activator.ts"
import { lab } from "./nixLab.ts"
import { makeNixMachine, type NixMachineOptions } from "./nixMachine.ts"

export type NixHostOptions = Omit<NixMachineOptions, "builder">

/** A host that has nothing yet. */
export const makeNixHost = (options: NixHostOptions) =>
  Effect.suspend(() => makeNixMachine({ ...options, builder: lab() }))

export type NixHost = Effect.Success<ReturnType<typeof makeNixMachine>>

/** Where the files of a path are on a host. */
export const placeOf = (host: NixHost, closure: string): string => join(host.config.nix.realStoreDir, closure)

/** Realises with an agent of its own. With another Nix than this machine's, what it says is shown. */
export const realiseOnNix = (host: NixHost, closure: string) =>
  Effect.flatMap(Activator, (activator) => activator.realise(closure)).pipe(
    Effect.tap((outcome) =>
      Effect.sync(() => {
        if (process.env["NIXFLEET_TEST_NIX"] !== undefined) console.log(JSON.stringify(outcome))
      })
    ),
    Effect.provide(host.layer)
  )
