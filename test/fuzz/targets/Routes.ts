/**
 * Every route of the control plane, with its real decision and its real journal behind: a session of requests, some of them
 * hostile. Each gets an answer that the contract knows; what was journaled is what a restart finds.
 *
 * An input is text: requests separated by a line `===`, each `METHOD target common-name`, headers, a blank line, the body.
 * `WAIT n` lets n milliseconds pass.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { makeAuthority } from "../../../examples/certificates.ts"
import type { Api } from "../../../src/ControlPlane/Api/Api.ts"
import { maxBodyBytes, routes } from "../../../src/ControlPlane/Api/Contract.ts"
import type {
  ActionAnswer,
  EventAnswer,
  HeartbeatAnswer,
  Input,
  IssuanceAnswer
} from "../../../src/ControlPlane/Input.ts"
import { sorted, type State } from "../../../src/ControlPlane/State.ts"
import * as Views from "../../../src/ControlPlane/Views.ts"
import { MemoryDisk } from "../../../src/Layers/Disk/MemoryDisk.ts"
import type { ExchangeRequest, ExchangeResponse } from "../../../src/Layers/Net/Exchange.ts"
import { EnrollRequest, RenewRequest } from "../../../src/Schema/Enrollment.ts"
import { operatorUnit } from "../../../src/Schema/Identity.ts"
import { OperatorAction } from "../../../src/Schema/Interventions.ts"
import { formatTimestamp } from "../../../src/Schema/Primitives.ts"
import { AgentEventEnvelope, HeartbeatRequest } from "../../../src/Schema/Wire.ts"
import { apiRig, peerNamed, suffix } from "../../support/apiRig.ts"
import { closureOf, idOf, openJournal, Plane, type Release, start } from "../../support/controlPlane.ts"
import { csr, nonceOf, p256Key, rootSlot, token } from "../../support/identities.ts"
import { h1, h2, issuanceOf, noncesOf, unitWithKeys } from "../../support/issuanceRig.ts"
import type { Random } from "../../support/random.ts"
import { textOf, utf8 } from "../../support/tls.ts"
import { mutate } from "../Mutator.ts"
import { jsonOf, type Source } from "../Samples.ts"
import type { Target } from "../Target.ts"

const issuance = issuanceOf(makeAuthority({ commonName: "Fleet CA", now: start, agentSuffix: suffix }))
const farAhead = 250_000_000_000_000

const release: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const rolloutId = idOf(release)
const separator = "\n===\n"
const at = formatTimestamp(start)

const capabilities = "x-nixfleet-protocol: 1\nx-nixfleet-capabilities: verdicts,journal,attempts\n"
const agentOf = (host: string) => `agent-${host}.${suffix}`

function requestText(method: string, target: string, peer: string, body = "", headers = capabilities): string {
  const type = method === "POST" ? "content-type: application/json\n" : ""
  return `${method} ${target} ${peer}\n${type}${headers}\n${body}`
}

const eventText = (seq: number, event: Readonly<Record<string, unknown>>, headers?: string) =>
  requestText(
    "POST",
    "/v1/agent/events",
    agentOf("h1"),
    JSON.stringify({ hostname: "h1", rolloutId, journalId: "j1", event: { ...event, attempt: 1, seq } }),
    headers
  )

const heartbeatText = (host: string, fields: Readonly<Record<string, unknown>>, headers?: string) =>
  requestText(
    "POST",
    "/v1/agent/heartbeat",
    agentOf(host),
    JSON.stringify({ hostname: host, at, journal_id: `j-${host}`, digests: [], ...fields }),
    headers
  )

const target = closureOf("a1", "h1")
const digest = { rollout_id: rolloutId, state: "Converged", target_closure: target, attempt: 1, last_event_seq: 7 }

/** Good at every time that a clock may show here. */
const bootstrap = {
  token: token({ host: "h1", key: h1, nonce: nonceOf("a"), issuedAt: 0, expiresAt: farAhead }),
  csrPem: csr("h1", h1)
}
const enrollments: ReadonlyArray<string> = [
  bootstrap,
  { ...bootstrap, csrPem: csr("h2", h1) },
  { ...bootstrap, csrPem: csr("h1", { privateKey: p256Key() }) },
  { ...bootstrap, token: token({ host: "h1", key: h2, nonce: nonceOf("a"), issuedAt: 0, expiresAt: farAhead }) },
  { ...bootstrap, token: { ...bootstrap.token, version: 2 } }
].map((body) => requestText("POST", "/v1/enroll", "", JSON.stringify(body)))
const renewals: ReadonlyArray<string> = [csr("h1", h1), csr("h2", h1), csr("h1", h2)].map((csrPem) =>
  requestText("POST", "/v1/agent/renew", agentOf("h1"), JSON.stringify({ csrPem }))
)

/** A host's way through a rollout, as the wire carries it. */
const events: ReadonlyArray<Readonly<Record<string, unknown>>> = [
  { kind: "DispatchAck", currentClosureAtDispatch: "0-before", receivedAt: at },
  { kind: "ActivationStarted", startedAt: at, switchMethod: "test" },
  { kind: "ActivationCompleted", observedCurrentClosure: target, exitCode: 0, completedAt: at },
  { kind: "ProbeTopologyDeclared", probes: [{ probeName: "web", kind: "http", mode: "enforce" }], declaredAt: at },
  { kind: "ProbeResult", probeName: "web", mode: "enforce", status: "fail", observedAt: at, failureReason: "x" },
  {
    kind: "Failed",
    failedAt: at,
    sustainedDurationSecs: 120,
    failingProbes: ["web"],
    policyApplied: "rollback-and-halt"
  },
  { kind: "RollbackComplete", revertedToClosure: "0-before", exitCode: 0, completedAt: at },
  { kind: "ActivationFailed", exitCode: 1, stderrTail: "x", failedAt: at, closureAtFault: true },
  { kind: "ActivationDeferred", component: "kernel", deferredAt: at },
  { kind: "Converged", convergedAt: at, currentClosure: target }
]

const probe = (status: string) => ({ kind: "ProbeResult", probeName: "web", mode: "enforce", status, observedAt: at })

/** The way that ends well: the soak lies between the probe and its end. */
const converging = [
  ...[...events.slice(0, 4), probe("pass")].map((event, index) => eventText(index + 1, event)),
  "WAIT 400000",
  eventText(6, { kind: "Converged", convergedAt: formatTimestamp(start + 400_000), currentClosure: target }),
  requestText("GET", "/v1/agent/dispatch?wait=1", agentOf("h2"))
].join(separator)

const reads = routes.filter(({ method }) => method === "GET").map(({ path }) =>
  path.replace("hosts/:name", "hosts/h1").replace(":id", rolloutId).replace(":name", "stable")
)

const heartbeats: ReadonlyArray<string> = [
  heartbeatText("h1", { digests: [digest], last_event_seq_by_rollout: { [rolloutId]: 7 }, rollout_id: rolloutId }),
  heartbeatText("h2", { current_closure: closureOf("a1", "h2") }, "x-nixfleet-protocol: 1\n"),
  heartbeatText("h3", {
    boot: true,
    digests: [{ ...digest, state: "Reverted", target_closure: closureOf("a1", "h3"), quarantined: true }],
    rejections: [{ rollout_id: rolloutId, reason: "stale", detail: "", at }]
  })
]

const until = formatTimestamp(start + 3_600_000)
const actions: ReadonlyArray<string> = [
  { action: "PauseRollout", rolloutId, until },
  { action: "ResumeRollout", rolloutId },
  { action: "HoldHost", host: "h1", until },
  { action: "ReleaseHost", host: "h1" },
  { action: "Freeze", channel: null, until },
  { action: "Freeze", channel: "stable", until },
  { action: "Unfreeze", channel: "stable" },
  { action: "ClearRollout", rolloutId },
  { action: "ClearQuarantine", of: { rolloutId } },
  { action: "ClearQuarantine", of: { closure: target } }
].map((action) =>
  requestText("POST", "/v1/operator/actions", "operator-ada", JSON.stringify({ ...action, reason: "a test" }))
)

const anEnvelope = jsonOf(AgentEventEnvelope, [{}])
const aHeartbeat = jsonOf(HeartbeatRequest, [{}])
const anEnrollment = jsonOf(EnrollRequest, [{}])
const aRenewal = jsonOf(RenewRequest, [{}])
const anAction = jsonOf(OperatorAction, [{}])

/** A generated body that is of the host that sends it, so that it comes further than the door. */
const posted =
  (path: string, source: Source, own: Readonly<Record<string, unknown>>, by: string = agentOf("h1")): Source =>
  (dice) =>
    Effect.map(source(dice), (bytes) => {
      const body = JSON.stringify({ ...JSON.parse(textOf(bytes)), ...own })
      return utf8(requestText("POST", path, by, body))
    })

function written(dice: Random): string {
  const from = dice.below(events.length)
  switch (dice.below(10)) {
    case 0:
      return dice.pick(heartbeats)
    case 1:
      return requestText("GET", dice.pick(reads), dice.pick([agentOf("h1"), "operator-ada"]))
    case 2:
      return requestText("GET", `/v1/rollouts/${rolloutId}/events?limit=2&after_seq=1`, "operator-ada")
    case 3:
      return eventText(1 + dice.below(12), events[from]!, dice.chance(0.5) ? capabilities : "")
    case 4:
      return `WAIT ${dice.pick([1_000, 100_000, 400_000, 4_000_000])}`
    case 5:
      return converging
    case 6:
      return dice.pick(enrollments)
    case 7:
      return dice.pick(renewals)
    case 8:
      return dice.pick(actions)
    default:
      return events.slice(0, from + 1).map((event, index) => eventText(index + 1, event)).join(separator)
  }
}

const request: Source = (dice) => {
  switch (dice.below(9)) {
    case 0:
      return posted("/v1/agent/events", anEnvelope, dice.chance(0.7) ? { hostname: "h1", rolloutId } : {})(dice)
    case 1:
      return posted("/v1/agent/heartbeat", aHeartbeat, { hostname: "h1" })(dice)
    case 2:
      return posted("/v1/enroll", anEnrollment, dice.chance(0.5) ? { csrPem: bootstrap.csrPem } : {})(dice)
    case 3:
      return posted("/v1/agent/renew", aRenewal, {})(dice)
    case 4:
      return posted("/v1/operator/actions", anAction, {}, "operator-ada")(dice)
    default:
      return Effect.succeed(utf8(written(dice)))
  }
}

const session: Source = Effect.fnUntraced(function*(dice) {
  const parts: Array<Uint8Array> = []
  do {
    const made = yield* request(dice)
    parts.push(dice.chance(0.4) ? mutate(made, dice) : made, utf8(separator))
  } while (dice.chance(0.7))
  return Buffer.concat(parts)
})

interface Sent {
  readonly request: ExchangeRequest
  readonly commonName: string
}

/** As a server would have parsed it: anything it could not pass on does not come here. */
function parse(text: string): Sent {
  const end = text.indexOf("\n\n")
  const [first = "", ...lines] = (end < 0 ? text : text.slice(0, end)).split("\n")
  const [method = "", path = "", ...rest] = first.split(" ")
  const headers = Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(":")
    return [line.slice(0, Math.max(colon, 0)).toLowerCase(), line.slice(colon + 1).trim()]
  }))
  const body = end < 0 ? new Uint8Array() : new Uint8Array(Buffer.from(text.slice(end + 2), "latin1"))
  // The type knows two methods, the wire any word.
  return { request: { method: method as ExchangeRequest["method"], path, headers, body }, commonName: rest.join(" ") }
}

const day = 86_400_000

/** How long a line of the session lets pass, ms; at most a day. */
const waitOf = (text: string): number | undefined => {
  const ms = /^WAIT ([0-9]{1,15})$/.exec(text)?.[1]
  return ms === undefined ? undefined : Math.min(day, Number(ms))
}

const known = new Set([200, 204, 304, 400, 401, 403, 404, 405, 409, 413, 415, 422, 425, 426, 503])

function checkAnswer({ request: { body, path } }: Sent, response: ExchangeResponse): void {
  assert.isTrue(known.has(response.status), `status ${response.status}`)
  if (body.length > maxBodyBytes(path)) assert.include([404, 405, 413], response.status)
  if (response.headers["content-type"] === "application/json" && response.status === 200) {
    JSON.parse(textOf(response.body))
  }
}

/** What a restart must bring back of what was said and decided; who waited is gone. */
const durable = (
  { channels, identities, interventions, lifted, nextDelivery, quarantine, queue, rollouts }: State
) => ({
  channels: sorted(channels),
  nextDelivery,
  queue: sorted(queue).map(([host, { lease, ...row }]) => [host, row, lease?.deliveryId, lease?.expiresAt]),
  quarantine,
  lifted: sorted(lifted),
  interventions: sorted(interventions),
  lists: [identities.revocations?.list, identities.nonces?.list],
  used: sorted(identities.used),
  chains: sorted(identities.chains),
  rollouts: sorted(rollouts).map(([id, { hosts, plan, record }]) => [
    id,
    record,
    plan,
    sorted(hosts).map(([host, entry]) => [host, entry.record, entry.ledger.lastSeq, entry.overlay])
  ])
})

/** A control plane that has heard of all its hosts, behind its routes. */
const controlPlane = Effect.fnUntraced(function*(disk: MemoryDisk) {
  const journal = yield* openJournal(disk)
  const made = new Plane(journal)
  made.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({ h1: h1.openSsh, h2: h2.openSsh }) })
  made.offer({
    _tag: "NoncesVerified",
    list: noncesOf([{ nonce: nonceOf("a"), hostname: "h1", expiresAt: farAhead }])
  })
  made.hear(release)
  const inbox: Api["inbox"] = {
    event: (input) => Effect.sync(() => made.offer(input) as EventAnswer),
    heartbeat: (input) => Effect.sync(() => made.offer(input) as HeartbeatAnswer),
    issuance: (input) => Effect.sync(() => made.offer(input) as IssuanceAnswer),
    action: (input) => Effect.sync(() => made.offer(input) as ActionAnswer),
    offer: (input: Input) => {
      made.offer(input)
      if (input._tag !== "Parked") return true
      // A poll that would wait is answered as at its deadline: nobody is asked twice.
      queueMicrotask(() => rig.waiters.complete(input.waiterId, made.answerTo(input.waiterId) ?? { _tag: "Nothing" }))
      return true
    }
  }
  const rig = yield* apiRig({
    inbox,
    state: () => made.state,
    projections: Views,
    eventLog: journal.eventLog,
    recentActions: journal.recentActions,
    issuance,
    tokenKeys: Effect.succeed(rootSlot)
  })
  return { rig, made }
})

export const route: Target = {
  name: "routes",
  weight: 5,
  source: session,
  check: Effect.fnUntraced(function*(input) {
    const disk = new MemoryDisk("control plane")
    const { made, rig } = yield* controlPlane(disk)
    for (const text of Buffer.from(input).toString("latin1").split(separator)) {
      const ms = waitOf(text)
      if (ms !== undefined) {
        made.pass(ms)
        continue
      }
      const sent = parse(text)
      const unit = sent.commonName.startsWith("operator-") ? operatorUnit : undefined
      checkAnswer(sent, yield* rig.call(sent.request, peerNamed(sent.commonName, { unit })))
    }
    assert.strictEqual(rig.waiters.size(), 0, "no poll is left")
    const again = yield* openJournal(disk)
    assert.deepStrictEqual(durable(again.initial), durable(made.state), "a restart finds what was journaled")
  })
}
