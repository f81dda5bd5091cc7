/** The control plane's routes over a scripted reducer: what was offered is kept, what is answered is given. */
import { Context, Effect, Layer } from "effect"
import type { Api } from "../../src/ControlPlane/Api/Api.ts"
import { makeHandler } from "../../src/ControlPlane/Api/Handler.ts"
import type { Busy } from "../../src/ControlPlane/Inbox.ts"
import type {
  ActionAnswer,
  EventAnswer,
  HeartbeatAnswer,
  Input,
  IssuanceAnswer,
  Verified,
  VerifiedArtifacts
} from "../../src/ControlPlane/Input.ts"
import { emptyState, type State } from "../../src/ControlPlane/State.ts"
import { Waiters } from "../../src/ControlPlane/Waiters.ts"
import type { ExchangeHandler, ExchangeRequest, ExchangeResponse, Peer } from "../../src/Layers/Net/Exchange.ts"
import { operatorUnit } from "../../src/Schema/Identity.ts"
import { type ArtifactKind, fleetKind, manifestKind, type Signed, verify } from "../../src/Trust/Verify.ts"
import { commit, fleetJson, manifestJson, signed, signedAt, slot } from "./artifacts.ts"
import { utf8 } from "./tls.ts"

export const suffix = "fleet.test"
export const longAgo = 0
const farAhead = 4_000_000_000_000

export const peerNamed = (commonName: string | undefined, validity: Partial<Peer> = {}): Peer => ({
  commonName,
  unit: undefined,
  notBefore: longAgo,
  notAfter: farAhead,
  ...validity
})
export const agent = (host: string) => peerNamed(`agent-${host}.${suffix}`)
export const operator = peerNamed("operator-ada", { unit: operatorUnit })

function verified<A extends Signed>(kind: ArtifactKind<A>, json: ReturnType<typeof fleetJson>): Verified<A> {
  const verdict = verify({
    kind,
    ...signed(json),
    slot: slot(),
    now: signedAt,
    windowMs: () => 3_600_000,
    highestSignedAt: () => undefined
  })
  if (!verdict.ok) throw new Error(`${verdict.reason}: ${verdict.detail}`)
  return verdict
}

export const stableId = `stable@${commit}`

export const artifacts: VerifiedArtifacts = (() => {
  const fleet = verified(fleetKind, fleetJson())
  const manifest = verified(manifestKind, manifestJson({ fleetResolvedHash: fleet.hash }))
  return { fleet, manifests: new Map([[stableId, manifest]]) }
})()

export interface ApiRig {
  readonly handler: ExchangeHandler
  readonly waiters: Waiters["Service"]
  /** Everything that was offered, in order. */
  readonly offered: Array<Input>
  /** Replaced by a test to script the reducer. */
  state: State
  eventAnswer: Effect.Effect<EventAnswer | Busy>
  heartbeatAnswer: Effect.Effect<HeartbeatAnswer | Busy>
  issuanceAnswer: Effect.Effect<IssuanceAnswer | Busy>
  actionAnswer: Effect.Effect<ActionAnswer | Busy>
  room: boolean
  readonly call: (request: ExchangeRequest, peer?: Peer, address?: string) => Effect.Effect<ExchangeResponse>
}

export const apiRig = Effect.fnUntraced(function*(overrides: Partial<Api> = {}) {
  const waiters = Context.get(yield* Layer.build(Layer.fresh(Waiters.layer)), Waiters)
  const offered: Array<Input> = []
  const rig: ApiRig = {
    waiters,
    offered,
    state: { ...emptyState("db"), artifacts },
    eventAnswer: Effect.succeed({ _tag: "Applied" }),
    heartbeatAnswer: Effect.succeed({ _tag: "Heartbeat", response: { bootstrap_rollouts: [] } }),
    issuanceAnswer: Effect.succeed({ _tag: "Granted" }),
    actionAnswer: Effect.succeed({
      _tag: "NotTaken",
      because: "not-now",
      reason: "rollout-over",
      detail: "it is over"
    }),
    room: true,
    handler: makeHandler({
      inbox: {
        event: (input) => Effect.suspend(() => (offered.push(input), rig.eventAnswer)),
        heartbeat: (input) => Effect.suspend(() => (offered.push(input), rig.heartbeatAnswer)),
        action: (input) => Effect.suspend(() => (offered.push(input), rig.actionAnswer)),
        issuance: (input) => Effect.suspend(() => (offered.push(input), rig.issuanceAnswer)),
        offer: (input) => rig.room && offered.push(input) > 0
      },
      waiters,
      state: () => rig.state,
      projections: {
        hosts: () => ({ hosts: [] }),
        why: () => undefined,
        rollouts: () => ({ rollouts: [] }),
        rolloutHosts: () => undefined,
        lifecycle: () => undefined,
        channel: () => undefined
      },
      eventLog: ({ rolloutId }) => Effect.succeed({ rollout_id: rolloutId, events: [] }),
      recentActions: Effect.succeed([]),
      metrics: Effect.succeed(""),
      issuance: undefined,
      tokenKeys: Effect.succeed(slot()),
      operatorNames: new Set(),
      agentSuffix: suffix,
      strict: false,
      version: "0.0.0-test",
      ...overrides
    }),
    call: (request, peer, address) => rig.handler(request, peer, address)
  }
  return rig
})

export const capable = { "x-nixfleet-capabilities": "verdicts,journal,attempts" }

export const getRequest = (path: string, headers: Readonly<Record<string, string>> = {}): ExchangeRequest => ({
  method: "GET",
  path,
  headers,
  body: new Uint8Array()
})

export const postJson = (
  path: string,
  value: unknown,
  headers: Readonly<Record<string, string>> = {}
): ExchangeRequest => ({
  method: "POST",
  path,
  headers: { "content-type": "application/json", ...headers },
  body: utf8(typeof value === "string" ? value : JSON.stringify(value))
})
