/** Releases with the bytes that their values were decoded from, and snapshots of planes that follow them. */
import type { Verified, VerifiedArtifacts } from "../../src/ControlPlane/Input.ts"
import { snapshotLines } from "../../src/ControlPlane/Snapshot.ts"
import type { State } from "../../src/ControlPlane/State.ts"
import { encodeFleetResolved, encodeRolloutManifest } from "../../src/Schema/Artifacts.ts"
import { canonicalText, encodeUtf8, type Json } from "../../src/Trust/CanonicalJson.ts"
import { type Release, unitOf } from "./controlPlane.ts"

const inBytes = <A>(one: Verified<A>, encoded: unknown): Verified<A> => {
  const json: Json = JSON.parse(JSON.stringify(encoded))
  return { ...one, bytes: encodeUtf8(canonicalText(json)) }
}

/** `unitOf`, as it is published. */
export function published(...releases: ReadonlyArray<Release>): VerifiedArtifacts {
  const { fleet, manifests } = unitOf(...releases)
  return {
    fleet: inBytes(fleet, encodeFleetResolved(fleet.value)),
    manifests: new Map([...manifests].map(([id, one]) => [id, inBytes(one, encodeRolloutManifest(one.value))]))
  }
}

/** What `GET /v1/snapshot` answers of this state. */
export const snapshotText = (state: State, takenAt: number): string =>
  [...snapshotLines(state, takenAt)].map((line) => `${JSON.stringify(line)}\n`).join("")
