import { assert, describe, it } from "@effect/vitest"
import { Effect, HashMap } from "effect"
import { identify } from "../../../src/ControlPlane/Api/Identity.ts"
import { apiRig, getRequest, peerNamed, suffix } from "../../support/apiRig.ts"

const now = 1_778_893_200_000
const hosts: ReadonlySet<string> = new Set(["web-1"])
const roleOf = (commonName: string | undefined) => {
  const identified = identify(peerNamed(commonName), now, suffix, (name) => hosts.has(name))
  return identified.ok ? identified.identity.role : identified.reason
}

describe("the role of a certificate (D16)", () => {
  for (
    const [commonName, role] of [
      [`agent-web-1.${suffix}`, "agent"],
      [`agent-web-9.${suffix}`, "agent"],
      ["operator-ada", "operator"],
      ["web-1", "certificate-of-no-role"],
      ["agent-web-1.another.fleet", "certificate-of-no-role"],
      [`AGENT-web-1.${suffix}`, "certificate-of-no-role"],
      [`agent-../web-1.${suffix}`, "certificate-of-no-role"],
      [`agent-.${suffix}`, "certificate-of-no-role"],
      [undefined, "no-client-certificate"]
    ] as const
  ) {
    it(`${commonName ?? "no certificate"} is ${role}`, () => assert.strictEqual(roleOf(commonName), role))
  }

  it.effect("a host that has left the fleet does not become an operator by its bare name", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const asked = rig.call(getRequest("/v1/hosts"), peerNamed("old-1"))
      assert.strictEqual((yield* asked).status, 200)
      rig.state = { ...rig.state, hosts: HashMap.make(["old-1", { rollouts: [] }]) }
      assert.strictEqual((yield* asked).status, 403)
    }))
})
