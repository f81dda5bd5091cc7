/** Trust memory (D14): the highest accepted `signedAt` of each artifact; it never goes back. */
import { accepted, type Answer, type ArtifactsAccepted } from "../Input.ts"
import type { Draft } from "./Draft.ts"

export function trust(draft: Draft, input: ArtifactsAccepted): Answer {
  const higher = input.marks.filter(({ artifact, signedAt }) => signedAt > (draft.state.trust.get(artifact) ?? -1))
  if (higher.length === 0) return accepted
  const marks = new Map(draft.state.trust)
  for (const mark of higher) {
    marks.set(mark.artifact, Math.max(mark.signedAt, marks.get(mark.artifact) ?? 0))
    draft.write({ _tag: "PutTrust", mark })
  }
  draft.state = { ...draft.state, trust: marks }
  return accepted
}
