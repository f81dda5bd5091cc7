/**
 * How the heartbeats go, for `nixfleet-agent status`: stored when it changes, and again now and then. An idle host so pays
 * one small commit every few minutes, not one a heartbeat.
 */
import type { Contact } from "../../Schema/AgentJournal.ts"
import { rejectionDetailLimit } from "../../Schema/Wire.ts"
import { accepted, type Answer, type HeartbeatFailed } from "../Input.ts"
import type { Draft } from "./Draft.ts"
import { contactRewriteMs } from "./Limits.ts"

export function answered(draft: Draft): void {
  const { contact } = draft.state
  const at = draft.now.wall
  if (contact?.answered === true && isFresh(contact, at)) return
  put(draft, {
    answered: true,
    since: contact?.answered === true ? contact.since : at,
    at,
    ...(contact?.failure === undefined ? {} : { failure: contact.failure })
  })
}

export function unanswered(draft: Draft, { detail, reason }: HeartbeatFailed): Answer {
  const { contact } = draft.state
  const at = draft.now.wall
  const goesOn = contact?.answered === false
  if (goesOn && contact.failure?.reason === reason && isFresh(contact, at)) return accepted
  put(draft, {
    answered: false,
    since: goesOn ? contact.since : at,
    at,
    failure: { at, reason, detail: detail.slice(0, rejectionDetailLimit).toWellFormed() }
  })
  return accepted
}

/** A clock that was set back makes it due as well. */
const isFresh = (contact: Contact, now: number): boolean => Math.abs(now - contact.at) < contactRewriteMs

function put(draft: Draft, contact: Contact): void {
  draft.state = { ...draft.state, contact }
  draft.write({ _tag: "PutContact", contact })
}
