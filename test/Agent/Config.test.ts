import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { gatherConfig } from "../../src/Agent/Config.ts"
import { settings } from "../../src/Agent/Settings.ts"
import { type AgentConfig, type AgentOptionName, agentOptions } from "../../src/Schema/AgentConfig.ts"
import type { ConfigProblem, ConfigSources, Gathered } from "../../src/Schema/Options.ts"

const required = {
  controlPlaneUrl: "https://cp.example:8443",
  machineId: "edge-07",
  trustFile: "/etc/nixfleet/agent/trust.json",
  caCert: "/etc/nixfleet/ca.pem",
  archiveSource: "/srv/archives"
}

/** Sources with what is required in the file, so that a test speaks only of what it varies. */
function sources(given: {
  readonly flags?: ConfigSources["flags"]
  readonly environment?: ConfigSources["environment"]
  readonly file?: Readonly<Record<string, unknown>>
  readonly text?: string
}): ConfigSources {
  return {
    flags: given.flags ?? {},
    environment: given.environment ?? {},
    file: {
      _tag: "Read",
      file: "/etc/agent.json",
      value: given.text === undefined ? { ...required, ...given.file } : JSON.parse(given.text)
    }
  }
}

function good(given: Parameters<typeof sources>[0]): Gathered<AgentConfig> {
  const result = gatherConfig(sources(given))
  assert(Result.isSuccess(result), Result.isFailure(result) ? JSON.stringify(result.failure) : "")
  return result.success
}

function problemsOf(from: ConfigSources): ReadonlyArray<ConfigProblem> {
  const result = gatherConfig(from)
  assert(Result.isFailure(result), "expected problems")
  return result.failure
}

const bad = (given: Parameters<typeof sources>[0]) => problemsOf(sources(given))

describe("names", () => {
  it("every option has one flag and one environment name, all different", () => {
    const flags = Object.values(agentOptions).map(({ flag }) => flag)
    const names = Object.values(agentOptions).map(({ env }) => env)
    assert.strictEqual(new Set(flags).size, flags.length)
    assert.strictEqual(new Set(names).size, names.length)
    for (const env of names) assert.match(env, /^NIXFLEET_AGENT_[A-Z_]+$/)
    for (const flag of flags) assert.match(flag, /^[a-z]+(-[a-z]+)*$/)
  })

  it("the original's flags and environment names are kept", () => {
    const original: ReadonlyArray<readonly [AgentOptionName, string, string]> = [
      ["controlPlaneUrl", "control-plane-url", "NIXFLEET_AGENT_CP_URL"],
      ["machineId", "machine-id", "NIXFLEET_AGENT_MACHINE_ID"],
      ["trustFile", "trust-file", "NIXFLEET_AGENT_TRUST_FILE"],
      ["caCert", "ca-cert", "NIXFLEET_AGENT_CA_CERT"],
      ["clientCert", "client-cert", "NIXFLEET_AGENT_CLIENT_CERT"],
      ["clientKey", "client-key", "NIXFLEET_AGENT_CLIENT_KEY"],
      [
        "manifestFreshnessWindowSecs",
        "manifest-freshness-window-secs",
        "NIXFLEET_AGENT_MANIFEST_FRESHNESS_WINDOW_SECS"
      ],
      ["stateDir", "state-dir", "NIXFLEET_AGENT_STATE_DIR"]
    ]
    for (const [name, flag, env] of original) {
      assert.strictEqual(agentOptions[name].flag, flag)
      assert.strictEqual(agentOptions[name].env, env)
    }
  })
})

describe("defaults", () => {
  it("are the original's cadences and limits", () => {
    const { config } = good({})
    assert.deepStrictEqual(config, settings(required))
    assert.strictEqual(config.heartbeatSecs, 60)
    assert.strictEqual(config.pollWaitSecs, 60)
    assert.strictEqual(config.pollTimeoutSecs, 65)
    assert.strictEqual(config.drainSecs, 15)
    assert.strictEqual(config.advanceSecs, 5)
    assert.strictEqual(config.manifestPollSecs, 30)
    assert.strictEqual(config.sustainedFailureSecs, 120)
    assert.strictEqual(config.manifestFreshnessWindowSecs, undefined)
    assert.strictEqual(config.stateDir, "/var/lib/nixfleet-agent")
    assert.strictEqual(config.healthChecksFile, "/etc/nixfleet/agent/health-checks.json")
  })
})

describe("precedence", () => {
  const name = "heartbeatSecs"
  const flag = { [name]: "1" }
  const environment = { NIXFLEET_AGENT_HEARTBEAT_SECS: "2" }
  const file = { [name]: 3 }
  const table: ReadonlyArray<readonly [string, Parameters<typeof sources>[0], number, string]> = [
    ["flag over environment and file", { flags: flag, environment, file }, 1, "flag --heartbeat-secs"],
    ["flag over file", { flags: flag, file }, 1, "flag --heartbeat-secs"],
    ["environment over file", { environment, file }, 2, "environment NIXFLEET_AGENT_HEARTBEAT_SECS"],
    ["file over default", { file }, 3, "file /etc/agent.json key heartbeatSecs"],
    ["default", {}, 60, "default"]
  ]
  for (const [title, given, value, source] of table) {
    it(`the strongest wins: ${title}`, () => {
      const gathered = good(given)
      assert.strictEqual(gathered.config.heartbeatSecs, value)
      assert.strictEqual(gathered.sourceOf(name), source)
    })
  }

  it("a switch may be turned off by a stronger source", () => {
    assert.isTrue(good({ file: { insecure: true } }).config.insecure)
    assert.isFalse(
      good({ file: { insecure: true }, environment: { NIXFLEET_AGENT_INSECURE: "false" } }).config.insecure
    )
    assert.isFalse(good({ file: { insecure: true }, flags: { insecure: false } }).config.insecure)
    assert.isTrue(good({ environment: { NIXFLEET_AGENT_INSECURE: "1" } }).config.insecure)
  })
})

describe("what is wrong", () => {
  const one = (given: Parameters<typeof sources>[0]) => {
    const problems = bad(given)
    assert.strictEqual(problems.length, 1, JSON.stringify(problems))
    return `${problems[0]!.at}: ${problems[0]!.message}`
  }
  const table: ReadonlyArray<readonly [string, Parameters<typeof sources>[0], string]> = [
    ["a flag that is no number", { flags: { heartbeatSecs: "often" } }, "flag --heartbeat-secs: expected a number"],
    [
      "an environment value that is no number",
      { environment: { NIXFLEET_AGENT_DRAIN_SECS: "1e3" } },
      "environment NIXFLEET_AGENT_DRAIN_SECS: expected a number"
    ],
    [
      "an empty environment value",
      { environment: { NIXFLEET_AGENT_DRAIN_SECS: "" } },
      "environment NIXFLEET_AGENT_DRAIN_SECS: expected a number"
    ],
    [
      "a file value of the wrong type",
      { file: { heartbeatSecs: "60" } },
      "file /etc/agent.json key heartbeatSecs: expected a number"
    ],
    [
      "a file value that is null",
      { file: { caCert: null } },
      "file /etc/agent.json key caCert: expected a string"
    ],
    [
      "a switch that is neither true nor false",
      { environment: { NIXFLEET_AGENT_INSECURE: "yes" } },
      "environment NIXFLEET_AGENT_INSECURE: expected true or false"
    ],
    ["an unknown key", { file: { heartbeat: 60 } }, "file /etc/agent.json key heartbeat: unknown key"],
    [
      "a key of the object's prototype",
      { text: `{"__proto__": 1, ${JSON.stringify(required).slice(1)}` },
      "file /etc/agent.json key __proto__: unknown key"
    ],
    [
      "a relative state directory",
      { flags: { stateDir: "state" } },
      "flag --state-dir: expected an absolute path"
    ],
    [
      "an address with a path",
      { flags: { controlPlaneUrl: "https://cp.example/v1" } },
      "flag --control-plane-url: expected https://host or https://host:port, without a path"
    ],
    [
      "an address whose port there is not",
      { flags: { controlPlaneUrl: "https://cp.example:99999" } },
      "flag --control-plane-url: expected an address that can be parsed"
    ],
    [
      "an address of archives that is none",
      { flags: { archiveSource: "http://[archives" } },
      "flag --archive-source: expected an address that can be parsed"
    ],
    [
      "a look at the soak that is rarer than the service manager's watchdog bears",
      { flags: { advanceSecs: "3600" } },
      "flag --advance-secs: Expected a value between 0.05 and 30"
    ],
    [
      "an address of another scheme",
      { flags: { controlPlaneUrl: "ftp://cp.example" } },
      "flag --control-plane-url: expected https://host or https://host:port, without a path"
    ],
    [
      "plain http without leave",
      { file: { controlPlaneUrl: "http://127.0.0.1:1" } },
      "file /etc/agent.json key controlPlaneUrl: http:// is refused without --insecure"
    ],
    [
      "a certificate without its key",
      { flags: { clientCert: "/c.pem" } },
      "flag --client-cert: --client-cert needs --client-key: a host without a key is nobody"
    ],
    [
      "a key without its certificate",
      { environment: { NIXFLEET_AGENT_CLIENT_KEY: "/k.pem" } },
      "environment NIXFLEET_AGENT_CLIENT_KEY: --client-key needs --client-cert: a key alone names nobody"
    ],
    [
      "a source of archives for the driver of Nix",
      { flags: { driver: "nix" } },
      "file /etc/agent.json key archiveSource: the nix driver takes closures from Nix's own binary caches, not from --archive-source"
    ],
    [
      "a driver that there is not",
      { flags: { driver: "guix" } },
      "flag --driver: Expected \"auto\" | \"nix\" | \"darwin\" | \"archive\""
    ],
    [
      "a poll that times out before the control plane answers",
      { flags: { pollWaitSecs: "60", pollTimeoutSecs: "60" } },
      "flag --poll-timeout-secs: must be more than the poll's wait of 60 s (flag --poll-wait-secs)"
    ],
    [
      "a wrong value that a flag overrides",
      { flags: { heartbeatSecs: "5" }, file: { heartbeatSecs: -1 } },
      "file /etc/agent.json key heartbeatSecs: Expected a value between 0.05 and 2592000"
    ]
  ]
  for (const [title, given, text] of table) {
    it(`${title} is named with its source`, () => assert.strictEqual(one(given), text))
  }

  it("https without authorities is refused, because the operating system's are never trusted", () => {
    const { caCert: _, ...rest } = required
    const problems = problemsOf(sources({ text: JSON.stringify(rest) }))
    assert.deepStrictEqual(problems.map(({ at }) => at), ["file /etc/agent.json key controlPlaneUrl"])
    assert.include(problems[0]!.message, "--ca-cert")
  })

  it("http with leave needs no certificate", () => {
    const { caCert: _, ...rest } = required
    const text = JSON.stringify({ ...rest, controlPlaneUrl: "http://127.0.0.1:1", insecure: true })
    assert.strictEqual(good({ text }).config.controlPlaneUrl, "http://127.0.0.1:1")
  })

  it("a driver of archives without their source is refused", () => {
    const { archiveSource: _, ...rest } = required
    const problems = problemsOf(sources({ text: JSON.stringify({ ...rest, driver: "archive" }) }))
    assert.deepStrictEqual(problems.map(({ at }) => at), ["file /etc/agent.json key driver"])
    assert.include(problems[0]!.message, "--archive-source")
    assert.isUndefined(good({ text: JSON.stringify(rest) }).config.archiveSource)
  })

  it("everything that is missing is named at once, with its three names", () => {
    const problems = problemsOf({ flags: {}, environment: {}, file: undefined })
    assert.deepStrictEqual(problems.map(({ at }) => at), [
      "flag --control-plane-url",
      "flag --machine-id",
      "flag --trust-file"
    ])
    assert.include(problems[0]!.message, "environment NIXFLEET_AGENT_CP_URL or file key controlPlaneUrl")
  })

  it("problems of all sources are reported together", () => {
    const problems = bad({
      flags: { heartbeatSecs: "x" },
      environment: { NIXFLEET_AGENT_DRAIN_SECS: "y", NIXFLEET_AGENT_MACHINE_ID: "a b" },
      file: { colour: "red", advanceSecs: 0 }
    })
    assert.deepStrictEqual(problems.map(({ at }) => at), [
      "file /etc/agent.json key colour",
      "environment NIXFLEET_AGENT_MACHINE_ID",
      "flag --heartbeat-secs",
      "environment NIXFLEET_AGENT_DRAIN_SECS",
      "file /etc/agent.json key advanceSecs"
    ])
  })

  for (
    const [title, text, message] of [
      ["a list", "[]", "expected a JSON object"],
      ["null", "null", "expected a JSON object"]
    ] as const
  ) {
    it(`a file that is ${title} is refused by name`, () => {
      const [first, ...others] = bad({ text })
      assert.deepStrictEqual(others, [])
      assert.strictEqual(first!.at, "file /etc/agent.json")
      assert.include(first!.message, message)
    })
  }

  it("a file that cannot be read is a problem, and the rest is still checked", () => {
    const problems = problemsOf({
      flags: { ...required, heartbeatSecs: "x" },
      environment: {},
      file: { _tag: "Unreadable", file: "/nope.json", message: "cannot be read: no such file" }
    })
    assert.deepStrictEqual(problems.map(({ at, message }) => `${at}: ${message}`), [
      "file /nope.json: cannot be read: no such file",
      "flag --heartbeat-secs: expected a number"
    ])
  })
})
