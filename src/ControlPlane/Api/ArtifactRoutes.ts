/**
 * The signed artifacts in force, byte for byte as they were verified, with their raw signatures beside them (protocol.md
 * §7.5). A conditional request is answered 304 (D15). Fleet, manifests and signatures come from one published unit.
 */
import { Effect, Schema } from "effect"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import { RolloutId } from "../../Schema/Primitives.ts"
import { sha256Hex } from "../../Trust/CanonicalJson.ts"
import type { Verified } from "../Input.ts"
import type { Api, Call } from "./Api.ts"
import { bare, bytes, notReady, refuse } from "./Reply.ts"

/** The artifact itself, or its signature file. */
export type Part = "artifact" | "signature"

const isRolloutId = Schema.is(RolloutId)

function serve<A>({ request }: Call, artifact: Verified<A>, part: Part): ExchangeResponse {
  const etag = `"${part === "artifact" ? artifact.hash : sha256Hex(artifact.signature)}"`
  const asked = request.headers["if-none-match"]
  if (asked !== undefined && asked.split(",").some((tag) => tag.trim() === etag)) return bare(304, { etag })
  const response = part === "artifact"
    ? bytes("application/json", artifact.bytes)
    : bytes("application/octet-stream", artifact.signature)
  return { ...response, headers: { ...response.headers, etag } }
}

export const fleet = Effect.fnUntraced(function*(api: Api, call: Call, part: Part) {
  const artifacts = api.state().artifacts
  if (artifacts === undefined) return yield* refuse("not-ready", "no signed artifact is verified yet", notReady)
  return serve(call, artifacts.fleet, part)
})

/** 404 for an id of another shape too: there is no such file (control-plane.md §2.2). */
export const manifest = Effect.fnUntraced(function*(api: Api, call: Call, part: Part) {
  const found = isRolloutId(call.parameter) ? api.state().artifacts?.manifests.get(call.parameter) : undefined
  if (found === undefined) return yield* refuse("rollout-unknown", call.parameter, 404)
  return serve(call, found, part)
})
