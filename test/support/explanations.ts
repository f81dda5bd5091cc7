/**
 * Asks in every state of a virtual world why each host is where it is, over the control plane's own route, and holds the answers
 * against the hosts themselves (D17).
 */
import { assert } from "@effect/vitest"
import { Schema } from "effect"
import type { ExchangeResponse } from "../../src/Layers/Net/Exchange.ts"
import { operatorUnit } from "../../src/Schema/Identity.ts"
import { Explanation, Healthz } from "../../src/Schema/OperatorViews.ts"
import type { VirtualHost } from "../../src/Simulation/VirtualHost.ts"
import type { World } from "../../src/Simulation/World.ts"

const operator = { commonName: "operator-ada", unit: operatorUnit, notBefore: 0, notAfter: Number.MAX_SAFE_INTEGER }
const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Explanation))
const health = Schema.decodeUnknownSync(Schema.fromJsonString(Healthz))
const textOf = ({ body }: ExchangeResponse): string => Buffer.from(body).toString()

const ask = ({ network }: World, path: string) =>
  network.ask({ method: "GET", path, headers: {}, body: new Uint8Array() }, operator)

/** Asked of anybody, and nothing is written about it: a refusal would be a line of the log. */
function isReady(world: World): boolean {
  const answer = ask(world, "/healthz")
  return answer !== undefined && health(textOf(answer)).ready === true
}

function explain(world: World, host: string): Explanation {
  const path = `/v1/hosts/${host}/why`
  const answer = ask(world, path)
  if (answer?.status !== 200) return assert.fail(`${path}: ${answer?.status}`)
  return decode(textOf(answer))
}

const essence = ({ because, clearedBy, earliestAt, reason, standing }: Explanation): string =>
  JSON.stringify({ standing, reason, because, clearedBy, earliestAt })

/** What is said, and what a look at the host itself shows. */
function checkTruth(found: Explanation, { hardware, name }: VirtualHost): void {
  const { because, clearedBy, earliestAt, reason, rollout, standing } = found
  const said = `${name}: ${standing}, ${reason}: ${because}`
  assert.isAbove(because.length, 20, said)
  if (standing === "at-target") {
    assert.isNull(clearedBy, said)
    assert.strictEqual(hardware.running, rollout?.targetClosure, said)
  } else assert.isAbove(clearedBy?.length ?? 0, 10, said)
  if (earliestAt !== null) assert.isAbove(earliestAt, found.at, said)
}

/** What was explained, of all worlds that were watched. */
export class Explanations {
  /** Reasons that were met. */
  readonly met = new Set<string>()
  asked = 0

  /** For one world. A time that was named has come: then something else is said. */
  watcher(): (world: World) => void {
    const latest = new Map<string, Explanation>()
    return (world) => {
      if (!isReady(world)) return
      for (const host of world.hosts) {
        const found = explain(world, host.name)
        this.asked += 1
        this.met.add(found.reason)
        checkTruth(found, host)
        const before = latest.get(host.name)
        if (before !== undefined && before.earliestAt !== null && found.at >= before.earliestAt) {
          assert.notStrictEqual(essence(found), essence(before), `${host.name}: ${before.because}`)
        }
        latest.set(host.name, found)
      }
    }
  }
}
