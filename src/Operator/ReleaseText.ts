/** How a release is summed up, for a person and for a program. Pure. */
import type { RolloutManifest } from "../Schema/Artifacts.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import { type Release, rolloutIdOfManifest } from "./Release.ts"

const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`

const summary = (manifest: RolloutManifest) => ({
  rolloutId: rolloutIdOfManifest(manifest),
  hosts: manifest.hostSet.length,
  waves: new Set(manifest.hostSet.map((entry) => entry.waveIndex)).size
})

function describeManifest(manifest: RolloutManifest): string {
  const { hosts, rolloutId, waves } = summary(manifest)
  return `  ${rolloutId}  ${counted(hosts, "host")} in ${counted(waves, "wave")}`
}

/** `signedAt`: null while the release is not signed. */
export function releaseAsJson(directory: string, ref: string | null, signedAt: Millis | null, release: Release) {
  return {
    directory,
    ref,
    signedAt: signedAt === null ? null : formatTimestamp(signedAt),
    fleetHash: release.fleetHash,
    rollouts: release.manifests.map(summary)
  }
}

export function describeRelease(headline: string, release: Release): string {
  const rollouts = release.manifests.length === 0 ? ["  no host has a closure: nothing to roll out"] : []
  return [headline, `  fleet ${release.fleetHash}`, ...release.manifests.map(describeManifest), ...rollouts].join("\n")
}
