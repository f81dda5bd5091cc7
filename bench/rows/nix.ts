/**
 * The driver of Nix against Nix itself. Realise: a closure of 100 MB and one of 1,001 paths, from a signed cache over HTTP into an
 * empty store, by the driver and by plain `nix-store --realise`. Activation: from the queued dispatch to the first command of
 * the switch, by an agent on a host of its own (bubblewrap), and the same commands of Nix by hand; the closure is there.
 */
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { mkdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { Builder, moveLink, removeStore, type ToySystem } from "../../examples/nix/Builder.ts"
import { hostPath, namespace, noHosts } from "../../examples/nix/Namespace.ts"
import { Activator } from "../../src/Layers/Host/Activator.ts"
import { Certificates } from "../../test/support/certificates.ts"
import { launch, messageOf } from "../../test/support/controlPlaneProcess.ts"
import { eventuallyIs, makeFleet } from "../../test/support/fleet.ts"
import { makeNixMachine } from "../../test/support/nixMachine.ts"
import { inDirectory } from "../support/directory.ts"
import { inTurns, median, type Row, rowOf, shown } from "../support/figures.ts"

const realiseRounds = 9
const activationRounds = 15
const host = "web-1"

const run = promisify(execFile)

interface Rig {
  readonly builder: Builder
  readonly url: string
}

const timed = async (body: () => Promise<unknown>): Promise<number> => {
  const begin = performance.now()
  await body()
  return performance.now() - begin
}

/** A host that has nothing, and its store open, so that its database is not made while the time runs. */
const emptyHost = ({ builder, url }: Rig) =>
  Effect.tap(
    makeNixMachine({ builder, substituters: [url], over: { realiseTimeoutMs: 600_000 } }),
    (empty) => empty.nix("nix-store", "--gc", "--print-roots")
  )

const realiseOurs = (rig: Rig, closure: string): Promise<number> =>
  Effect.gen(function*() {
    const { layer } = yield* emptyHost(rig)
    return yield* Effect.gen(function*() {
      const { realise } = yield* Activator
      return yield* Effect.promise(() =>
        timed(async () => {
          const outcome = await Effect.runPromise(realise(closure))
          if (outcome._tag !== "Ok") throw new Error(`${outcome._tag}: ${outcome.detail}`)
        })
      )
    }).pipe(Effect.provide(layer))
  }).pipe(Effect.scoped, Effect.runPromise)

interface RealiseFloor {
  readonly plain: number
  /** Also flushed to the disk, which Nix leaves to the kernel. */
  readonly durable: number
}

const realiseFloor = (rig: Rig, closure: string): Promise<RealiseFloor> =>
  Effect.gen(function*() {
    const { config, variables } = yield* emptyHost(rig)
    return yield* Effect.promise(async () => {
      const begin = performance.now()
      await run("nix-store", ["--realise", `/nix/store/${closure}`], { env: variables })
      const plain = performance.now() - begin
      await run("sync", ["--file-system", config.nix.realStoreDir])
      return { plain, durable: performance.now() - begin }
    })
  }).pipe(Effect.scoped, Effect.runPromise)

const realiseRows = (rig: Rig, what: string, closure: string) =>
  Effect.promise(async (): Promise<ReadonlyArray<Row>> => {
    let floors: ReadonlyArray<RealiseFloor> = []
    const sides = {
      ours: () => realiseOurs(rig, closure),
      floor: async () => {
        const floor = await realiseFloor(rig, closure)
        floors = [...floors, floor]
        return floor.durable
      }
    }
    await inTurns(1, sides)
    floors = []
    const durable = await inTurns(realiseRounds, sides)
    const plain = durable.map(({ ours }, round) => ({ ours, floor: floors[round]!.plain }))
    const goal = { at: "most", ratio: 1.1 } as const
    return [
      rowOf(`nix: realise ${what}, over nix-store`, goal, "ms", plain),
      rowOf(`nix: realise ${what}, over nix-store and sync`, goal, "ms", durable)
    ]
  })

/** The switch notes when it began: nanoseconds of the wall clock. */
const switchBegan = "/run/switch-began"
const switchProgram = `#!/bin/sh\ndate +%s%N >${switchBegan}\n${moveLink}`

const floorProgram = `
path=/nix/store/$1
begin=$(date +%s%N)
nix-store --realise $path >/dev/null
nix-env --profile /nix/var/nix/profiles/floor --set $path
NIXFLEET_CLOSURE=$path NIXFLEET_CURRENT_SYSTEM=/run/floor setsid --wait $path/bin/switch-to-configuration switch
echo $begin`

const millisIn = (text: string): number => Number(BigInt(text.trim()) / 1000n) / 1000

const activationRow = (rig: Rig) =>
  Effect.gen(function*() {
    const publish = (name: string) => Effect.promise(() => rig.builder.publish({ name, program: switchProgram }))
    const closures = [yield* publish("one"), yield* publish("two")] as const
    const nixHost = yield* makeNixMachine({ builder: rig.builder, substituters: [rig.url] })
    const fleet = yield* makeFleet({ hosts: [host] })
    const { caFile } = yield* Certificates
    const program = nixHost.agentProgram([fleet.directory, join(caFile, "..")])
    yield* fleet.controlPlane
    const agent = yield* fleet.agent(host, { archiveSource: undefined }, program)
    const began = () => millisIn(readFileSync(join(nixHost.root, switchBegan), "utf8"))
    let release = 0
    let accepted: ReadonlyArray<number> = []
    let mayStart: ReadonlyArray<number> = []
    const ours = () =>
      Effect.gen(function*() {
        const closure = closures[release % 2]!
        const rolloutId = fleet.publish((++release).toString(16).padStart(8, "0"), { [host]: closure })
        yield* eventuallyIs("a converged host", fleet.states(rolloutId), (states) => states[host] === "Converged")
        const record = fleet.record(host, rolloutId)
        if (record?.state !== "Converged") throw new Error(`${rolloutId}: ${JSON.stringify(record)}`)
        const { activationStartedAt = Number.NaN, dispatchAckedAt, dispatchedAt } = record
        accepted = [...accepted, dispatchAckedAt - dispatchedAt]
        mayStart = [...mayStart, activationStartedAt - dispatchedAt]
        return began() - dispatchedAt
      }).pipe(Effect.runPromise)
    const floor = () => floorOn(nixHost.root, closures[release % 2]!).then((begin) => began() - begin)
    // Both closures are there from the third release on, and both programs are warm.
    yield* Effect.promise(() => inTurns(4, { ours, floor }))
    accepted = []
    mayStart = []
    const pairs = yield* Effect.promise(() => inTurns(activationRounds, { ours, floor }))
    yield* fleet.end(agent, "SIGKILL")
    return rowOf("nix: dispatch queued to switch begun, closure present", { at: "most", ratio: 3 }, "ms", pairs, [
      `of ours, ${shown(median(accepted))} ms until it is verified and journaled, ${
        shown(median(mayStart))
      } ms until it is ` +
      "fetched and journaled as started; the rest is the guard, the profile and the start of the switch"
    ])
  })

/** Milliseconds of the wall clock at which the commands began. */
async function floorOn(root: string, closure: string): Promise<number> {
  const place = { nix: join(root, "nix"), run: join(root, "run"), writable: [root] }
  const { stdout } = await run("bwrap", namespace(place, ["/bin/sh", "-euc", floorProgram, "sh", closure]), {
    env: { PATH: hostPath, HOME: "/root", NIX_CONF_DIR: join(root, "etc") }
  })
  return millisIn(stdout)
}

const rows = (builder: Builder) =>
  Effect.gen(function*() {
    // Not in this process, which reads what Nix says while it fetches.
    const cache = yield* launch([builder.cache], {}, join(import.meta.dirname, "../programs/cache.ts"))
    const rig = { builder, url: messageOf(yield* cache.line(() => true)) }
    const publish = (system: Omit<ToySystem, "program">) =>
      Effect.promise(() => builder.publish({ program: switchProgram, ...system }))
    const large = yield* publish({ name: "large", referenceBytes: 100_000_000 })
    const many = yield* publish({ name: "many", payloadBytes: 0, references: 1000 })
    return [
      ...yield* realiseRows(rig, "100 MB", large),
      ...yield* realiseRows(rig, "1,001 paths", many),
      yield* activationRow(rig)
    ]
  })

export const nix = (): Promise<ReadonlyArray<Row>> => {
  const impossible = noHosts()
  if (impossible !== undefined) {
    console.log(`nix is left out: ${impossible}`)
    return Promise.resolve([])
  }
  return inDirectory((directory) => {
    const place = join(directory, "builder")
    mkdirSync(place)
    return rows(new Builder(place)).pipe(
      Effect.ensuring(Effect.sync(() => removeStore(place))),
      Effect.scoped,
      Effect.provide(Certificates.layer),
      Effect.runPromise
    )
  })
}
