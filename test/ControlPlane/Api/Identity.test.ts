import { assert, describe, it } from "@effect/vitest"
import { Effect, HashMap } from "effect"
import { identify } from "../../../src/ControlPlane/Api/Identity.ts"
import { operatorUnit } from "../../../src/Schema/Identity.ts"
import { apiRig, getRequest, peerNamed, suffix } from "../../support/apiRig.ts"

const now = 1_778_893_200_000
const hosts: ReadonlySet<string> = new Set(["web-1"])
const roles = {
  agentSuffix: suffix,
  operatorNames: new Set(["operator-old", "web-1", `agent-web-1.${suffix}`]),
  isHost: (name: string) => hosts.has(name)
}
const roleOf = (commonName: string | undefined, unit: string | undefined) => {
  const identified = identify(peerNamed(commonName, { unit }), now, roles)
  return identified.ok ? identified.identity.role : identified.reason
}

describe("the role of a certificate (D16)", () => {
  for (
    const [commonName, unit, role] of [
      [`agent-web-1.${suffix}`, undefined, "agent"],
      [`agent-web-9.${suffix}`, undefined, "agent"],
      [`agent-web-1.${suffix}`, "another unit", "agent"],
      [`agent-web-1.${suffix}`, operatorUnit, "certificate-of-no-role"],
      ["operator-ada", operatorUnit, "operator"],
      ["operator-ada", undefined, "certificate-of-no-role"],
      ["operator-ada", "Nixfleet-Operator", "certificate-of-no-role"],
      ["operator-old", undefined, "operator"],
      ["operator-old", "another unit", "operator"],
      ["web-1", undefined, "certificate-of-no-role"],
      ["web-1", operatorUnit, "certificate-of-no-role"],
      ["agent-web-1.another.fleet", operatorUnit, "certificate-of-no-role"],
      [`AGENT-web-1.${suffix}`, operatorUnit, "certificate-of-no-role"],
      [`agent-../web-1.${suffix}`, undefined, "certificate-of-no-role"],
      [`agent-.${suffix}`, undefined, "certificate-of-no-role"],
      [undefined, operatorUnit, "no-client-certificate"]
    ] as const
  ) {
    it(`${commonName ?? "no certificate"}, unit ${unit ?? "absent"}, is ${role}`, () =>
      assert.strictEqual(roleOf(commonName, unit), role))
  }

  it.effect("a host that has left the fleet does not become an operator by its bare name", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const asked = rig.call(getRequest("/v1/hosts"), peerNamed("old-1", { unit: operatorUnit }))
      assert.strictEqual((yield* asked).status, 200)
      rig.state = { ...rig.state, hosts: HashMap.make(["old-1", { rollouts: [] }]) }
      assert.strictEqual((yield* asked).status, 403)
    }))
})
