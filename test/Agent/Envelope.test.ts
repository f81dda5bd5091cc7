import { assert, describe, it } from "@effect/vitest"
import { receptionOf } from "../../src/Agent/Envelope.ts"

const refused = JSON.stringify({ verdict: "refused", reason: "invariant" })
const gap = (replayFrom?: number) => JSON.stringify({ verdict: "gap", reason: "seq-gap", replay_from: replayFrom })

/** What the answer to the event of seq 5 comes to; `counts` and `does not count` towards parking the row. */
function said(status: number, body = ""): string {
  const reception = receptionOf(status, body, 5)
  switch (reception._tag) {
    case "Undecided":
      return reception.counts ? "counts" : "does not count"
    case "Gap":
      return `from ${reception.replayFrom}`
    case "Refused":
      return `refused: ${reception.reason}`
    case "Applied":
    case "Parked":
      return reception._tag
  }
}

describe("an answer to an event (D4, D5)", () => {
  const rows: ReadonlyArray<readonly [number, string, string]> = [
    [204, "", "Applied"],
    [200, "whatever", "Applied"],
    [409, refused, "refused: invariant"],
    [422, refused, "refused: invariant"],
    [425, gap(3), "from 3"],
    [425, gap(5), "counts"],
    [425, gap(6), "counts"],
    [425, gap(), "counts"],
    // A verdict on a status that carries none, or of the other status, is none.
    [400, refused, "counts"],
    [403, refused, "counts"],
    [500, refused, "does not count"],
    [409, gap(3), "counts"],
    [425, refused, "does not count"],
    // Not our words.
    [409, "", "counts"],
    [409, "conflict", "counts"],
    [422, "{\"verdict\":\"refused\"}", "counts"],
    [422, "{\"verdict\":\"banned\",\"reason\":\"invariant\"}", "counts"],
    [425, "", "does not count"],
    // A proxy, or a control plane in trouble.
    [401, "", "counts"],
    [404, "", "counts"],
    [413, "", "counts"],
    [408, "", "does not count"],
    [429, "", "does not count"],
    [302, "", "does not count"],
    [500, "", "does not count"],
    [503, "", "does not count"]
  ]
  it.each(rows)("%d %s: %s", (status, body, expected) => assert.strictEqual(said(status, body), expected))
})
