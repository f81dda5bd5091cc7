/** How a release is summed up for a person. Pure. */
import type { RolloutManifest } from "../Schema/Artifacts.ts"
import { type Release, rolloutIdOfManifest } from "./Release.ts"

const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`

function describeManifest(manifest: RolloutManifest): string {
  const waves = new Set(manifest.hostSet.map((entry) => entry.waveIndex)).size
  return `  ${rolloutIdOfManifest(manifest)}  ${counted(manifest.hostSet.length, "host")} in ${counted(waves, "wave")}`
}

export function describeRelease(headline: string, release: Release): string {
  const rollouts = release.manifests.length === 0 ? ["  no host has a closure: nothing to roll out"] : []
  return [headline, `  fleet ${release.fleetHash}`, ...release.manifests.map(describeManifest), ...rollouts].join("\n")
}
