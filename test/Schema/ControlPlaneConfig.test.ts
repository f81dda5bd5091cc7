import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { settings } from "../../src/ControlPlane/Settings.ts"
import {
  type ControlPlaneConfig,
  controlPlaneOptions,
  controlPlaneTable,
  crossCheck,
  listenAddress,
  namesOf
} from "../../src/Schema/ControlPlaneConfig.ts"
import { type ConfigProblem, type ConfigSources, type Gathered, gatherOptions } from "../../src/Schema/Options.ts"

const required = {
  tlsCert: "/c.pem",
  tlsKey: "/k.pem",
  clientCa: "/ca.pem",
  agentCnSuffix: "fleet.example",
  releasesSource: "/srv/releases"
}

const gather = (given: Partial<ConfigSources> & { readonly values?: object } = {}) =>
  gatherOptions(controlPlaneTable, {
    flags: given.flags ?? {},
    environment: given.environment ?? {},
    file: given.file ?? { _tag: "Read", file: "/etc/cp.json", value: { ...required, ...given.values } }
  }, crossCheck)

function good(result: Result.Result<Gathered<ControlPlaneConfig>, ReadonlyArray<ConfigProblem>>) {
  assert(Result.isSuccess(result), Result.isFailure(result) ? JSON.stringify(result.failure) : "")
  return result.success
}
function problems(result: Result.Result<Gathered<ControlPlaneConfig>, ReadonlyArray<ConfigProblem>>) {
  assert(Result.isFailure(result))
  return result.failure.map(({ at, message }) => `${at}: ${message}`)
}

describe("the control plane's configuration", () => {
  it("has the original's defaults and cadences", () => {
    const { config } = good(gather())
    assert.deepStrictEqual(config, settings(required))
    assert.deepStrictEqual(
      [config.listen, config.trustFile, config.artifactPollSecs, config.planSecs, config.leaseSecs, config.strict],
      ["0.0.0.0:8080", "/etc/nixfleet/cp/trust.json", 30, 15, 90, false]
    )
  })

  it("an authority is a certificate and one key, of a file or behind a command", () => {
    const authority = { issuanceCaCert: "/ca.pem", issuanceCaKey: "/ca-key.pem", issuanceCaSignCommand: "sign" }
    const given = (...names: ReadonlyArray<keyof typeof authority>) =>
      gather({ values: Object.fromEntries(names.map((name) => [name, authority[name]])) })
    assert.strictEqual(good(given("issuanceCaCert", "issuanceCaKey")).config.agentCertValiditySecs, 2_592_000)
    assert.isDefined(good(given("issuanceCaCert", "issuanceCaSignCommand")).config.issuanceCaSignCommand)
    for (
      const [names, at, message] of [
        [["issuanceCaCert"], "issuanceCaCert", /without the authority's key/],
        [["issuanceCaKey"], "issuanceCaKey", /without the authority's certificate/],
        [["issuanceCaSignCommand"], "issuanceCaSignCommand", /without the authority's certificate/],
        [["issuanceCaCert", "issuanceCaKey", "issuanceCaSignCommand"], "issuanceCaSignCommand", /and not beside it/]
      ] as const
    ) {
      const [problem, ...others] = problems(given(...names))
      assert.deepStrictEqual(others, [])
      assert.isTrue(problem?.startsWith(`file /etc/cp.json key ${at}: `), problem)
      assert.match(problem ?? "", message)
    }
  })

  it("strict takes the authority's key from no file, unless that is said", () => {
    const values = { strict: true, issuanceCaCert: "/ca.pem" }
    const [problem, ...others] = problems(gather({ values: { ...values, issuanceCaKey: "/ca-key.pem" } }))
    assert.deepStrictEqual(others, [])
    assert.match(problem ?? "", /^file \/etc\/cp\.json key issuanceCaKey: a file is not taken with strict/)
    good(gather({ values: { ...values, issuanceCaKey: "/ca-key.pem", allowFileCaKey: true } }))
    good(gather({ values: { ...values, issuanceCaSignCommand: "sign" } }))
  })

  it("names of operators are a list separated by commas", () => {
    assert.deepStrictEqual(namesOf(good(gather()).config.operatorCn), [])
    const { config } = good(gather({ values: { operatorCn: "operator-ada, ops@example" } }))
    assert.deepStrictEqual(namesOf(config.operatorCn), ["operator-ada", "ops@example"])
    for (const operatorCn of ["", ",", "a,,b", "a,", "a\nb"]) {
      assert.lengthOf(problems(gather({ values: { operatorCn } })), 1, JSON.stringify(operatorCn))
    }
  })

  it("a flag wins over the environment, and that over the file; each value knows its source", () => {
    const given = {
      flags: { listen: "127.0.0.1:1" },
      environment: { NIXFLEET_CP_LISTEN: "127.0.0.1:2", NIXFLEET_CP_PLAN_SECS: "2.5" },
      values: { listen: "127.0.0.1:3", planSecs: 9, sweepSecs: 2 }
    }
    const { config, sourceOf } = good(gather(given))
    assert.deepStrictEqual([config.listen, config.planSecs, config.sweepSecs], ["127.0.0.1:1", 2.5, 2])
    assert.deepStrictEqual(["listen", "planSecs", "sweepSecs", "strict"].map(sourceOf), [
      "flag --listen",
      "environment NIXFLEET_CP_PLAN_SECS",
      "file /etc/cp.json key sweepSecs",
      "default"
    ])
  })

  it("environment names are the original's prefix and the key", () => {
    for (const [key, option] of Object.entries(controlPlaneOptions)) {
      assert.match(option.env, /^NIXFLEET_CP_[A-Z_]+$/)
      assert.strictEqual(option.env.slice(12).replaceAll("_", "-").toLowerCase(), option.flag, key)
    }
  })

  const wrong: ReadonlyArray<readonly [string, object, RegExp]> = [
    ["a listen address without a port", { listen: "localhost" }, /key listen: expected host:port/],
    ["a port out of range", { listen: "localhost:70000" }, /at most 65535/],
    ["a cadence of zero", { planSecs: 0 }, /key planSecs/],
    ["a cadence as text", { planSecs: "15" }, /key planSecs: expected a number/],
    ["a relative state directory", { stateDir: "state" }, /expected an absolute path/],
    ["a suffix with a leading dot", { agentCnSuffix: ".fleet.example" }, /without a leading dot/],
    ["a switch as text", { strict: "true" }, /key strict: expected true or false/],
    ["an unknown log format", { logFormat: "xml" }, /key logFormat/],
    ["an unknown log level", { logLevel: "loud" }, /key logLevel/],
    ["an unknown key", { tlsKeey: "x" }, /key tlsKeey: unknown key/],
    ["a token for a directory", { releasesTokenFile: "/t" }, /key releasesTokenFile: a token is only sent over https/],
    [
      "a token over plain http",
      { releasesTokenFile: "/t", releasesSource: "http://forge.example/r" },
      /a token is only sent over https/
    ],
    ["a sweep slower than the client's patience", { sweepSecs: 5 }, /must be at most 4/],
    ["a grace shorter than two heartbeats", { recoveryGraceSecs: 100 }, /at least two heartbeats/],
    ["a null", { listen: null }, /key listen: expected a string/]
  ]
  for (const [name, values, expected] of wrong) {
    it(`${name} is refused with its source`, () => {
      const found = problems(gather({ values }))
      assert.strictEqual(found.length, 1, found.join("\n"))
      assert.match(found[0] ?? "", expected)
    })
  }

  it("what is missing and what is wrong is told at once", () => {
    const file = { _tag: "Read", file: "/etc/cp.json", value: { listen: 1, other: 2 } } as const
    const found = problems(gather({ file }))
    assert.strictEqual(found.length, 2 + Object.keys(required).length)
  })

  it("an unreadable file is told beside the rest", () => {
    const found = problems(
      gather({ file: { _tag: "Unreadable", file: "/etc/cp.json", message: "cannot be read: EACCES" } })
    )
    assert.isTrue(found.some((problem) => problem.includes("/etc/cp.json") && problem.includes("EACCES")))
  })

  it("addresses are split at the last colon", () => {
    assert.deepStrictEqual(listenAddress("[::1]:8443"), { host: "::1", port: 8443 })
    assert.deepStrictEqual(listenAddress("0.0.0.0:0"), { host: "0.0.0.0", port: 0 })
  })
})
