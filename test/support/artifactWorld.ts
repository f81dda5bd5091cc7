/** The world of one poller of releases: a place where they are published, its disks, and the state that its inputs make. */
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { decide } from "../../src/ControlPlane/Decide.ts"
import { Inbox } from "../../src/ControlPlane/Inbox.ts"
import type { Input, VerifiedArtifacts } from "../../src/ControlPlane/Input.ts"
import { Settings, settings } from "../../src/ControlPlane/Settings.ts"
import { ControlPlaneState, emptyState } from "../../src/ControlPlane/State.ts"
import { ArtifactCache } from "../../src/Layers/Disk/ArtifactCache.ts"
import { TrustFile } from "../../src/Layers/Disk/TrustFile.ts"
import { type MemoryFile, TrustMemory } from "../../src/Layers/Disk/TrustMemory.ts"
import { ArtifactSource, type FetchedArtifact } from "../../src/Layers/Net/ArtifactSource.ts"
import { type Json, sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import * as ArtifactPoll from "../../src/Workers/ControlPlane/ArtifactPoll.ts"
import { Supervisor } from "../../src/Workers/Supervisor.ts"
import { commit, fleetJson, manifestJson, signed, signedAt, trustJson } from "./artifacts.ts"
import { utf8 } from "./tls.ts"

export const fleetFile = "fleet.resolved.json"
export const rolloutId = `stable@${commit}`
export const manifestFile = `rollouts/${rolloutId}.json`

/** A release: a fleet and the manifest of its one channel with targets. */
export function release(files: Map<string, FetchedArtifact>, overrides: { readonly [key: string]: Json } = {}): void {
  const fleet = signed(fleetJson(overrides))
  const { meta: given } = overrides
  files.set(fleetFile, fleet)
  files.set(
    manifestFile,
    signed(manifestJson({
      fleetResolvedHash: sha256Hex(fleet.bytes),
      ...(given === undefined ? {} : { meta: given })
    }))
  )
}

/** The world of one poller; `start` begins another process over the same disks. */
export class World {
  readonly files = new Map<string, FetchedArtifact>()
  readonly offered: Array<Input> = []
  readonly trust = { bytes: utf8(JSON.stringify(trustJson())) }
  readonly memory: MemoryFile = { bytes: undefined }
  readonly units = new Map<string, Uint8Array>()
  freshnessWindowSecs: number | undefined
  state = emptyState("db")

  readonly start = Effect.suspend(() =>
    Layer.build(ArtifactPoll.layer.pipe(
      Layer.provide([
        ArtifactSource.layerMemory(this.files),
        ArtifactCache.layerMemory(this.units),
        TrustFile.layerMemory(this.trust),
        TrustMemory.layerMemory(this.memory),
        Settings.layer(settings({
          tlsCert: "c",
          tlsKey: "k",
          clientCa: "ca",
          agentCnSuffix: "fleet.test",
          releasesSource: "/releases",
          freshnessWindowSecs: this.freshnessWindowSecs
        })),
        Layer.succeed(ControlPlaneState, { current: () => this.state }),
        Layer.succeed(Inbox, {
          event: () => Effect.die("unused"),
          heartbeat: () => Effect.die("unused"),
          issuance: () => Effect.die("unused"),
          action: () => Effect.die("unused"),
          offer: () => false,
          submit: (input) => Effect.sync(() => this.#decide(input)),
          ended: Effect.never
        })
      ]),
      Layer.provideMerge(Layer.fresh(Supervisor.layer))
    ))
  )

  #decide(input: Input): boolean {
    this.offered.push(input)
    this.state = decide(this.state, input, { wall: signedAt, monotonic: 0 }).state
    return true
  }

  published(): ReadonlyArray<VerifiedArtifacts> {
    return this.offered.flatMap((input) => input._tag === "ArtifactsVerified" ? [input.artifacts] : [])
  }
  refusals(): ReadonlyArray<readonly [string, string]> {
    return this.offered.flatMap((input) =>
      input._tag === "ArtifactRefused" ? [[input.artifact, input.reason] as const] : []
    )
  }
}

export const world = Effect.gen(function*() {
  yield* TestClock.setTime(signedAt + 60_000)
  return new World()
})
/** One poll, with the pause of a second try. */
export const poll = TestClock.adjust("31 seconds")
