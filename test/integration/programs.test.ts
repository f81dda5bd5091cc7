/** The three programs as a person starts them: names, exit codes (D18), and what `nixfleet-agent check` has to say. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { trustJson } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { launch, messageOf, site } from "../support/controlPlaneProcess.ts"
import { temporaryDirectory } from "../support/directories.ts"

const root = resolve(import.meta.dirname, "../..")
const manifest: { readonly version: string; readonly bin: Readonly<Record<string, string>> } = JSON.parse(
  readFileSync(join(root, "package.json"), "utf8")
)

interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs a command to its end, in the checkout. */
const run = (
  command: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Outcome> =>
  Effect.callback((resume) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] })
    let [out, err] = ["", ""]
    child.stdout.on("data", (chunk: Buffer) => out += chunk.toString())
    child.stderr.on("data", (chunk: Buffer) => err += chunk.toString())
    child.on("close", (code) => resume(Effect.succeed({ code, out, err })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const sources = {
  "nixfleet": "src/Operator/Main.ts",
  "nixfleet-agent": "src/Main.ts",
  "nixfleet-control-plane": "src/ControlPlane/Main.ts"
} as const
type ProgramName = keyof typeof sources

const program = (name: ProgramName, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  run(process.execPath, [join(root, sources[name]), ...args], env)

type PackAnswer = Readonly<Record<string, { readonly files: ReadonlyArray<{ readonly path: string }> }>>

/** The Node of the system, when it is too old for the commands. */
function olderNode(): { readonly file: string; readonly version: string } | undefined {
  const file = "/usr/bin/node"
  const version = existsSync(file) ? spawnSync(file, ["--version"], { encoding: "utf8" }).stdout.trim() : ""
  return /^v(?:1[4-9]|2[0-3])\./.test(version) ? { file, version } : undefined
}
const whySkipped = (older: unknown): string =>
  older === undefined ? " (skipped: /usr/bin/node is not one of 14 to 23)" : ""

describe("in a checkout", () => {
  it.live("the bundles are the three programs, with the version of the package", () =>
    Effect.gen(function*() {
      assert.sameMembers(Object.keys(manifest.bin), Object.keys(sources))
      for (const [name, file] of Object.entries(manifest.bin)) {
        assert.notStrictEqual(statSync(join(root, file)).mode & 0o111, 0, `${file} is executable`)
        const { code, out } = yield* run(join(root, file), ["--version"], {
          PATH: `${join(root, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`
        })
        assert.deepStrictEqual([code, out.trim()], [0, `${name} v${manifest.version}`])
      }
    }))

  it.live("npx finds them, with an empty home and without asking a registry", () =>
    Effect.gen(function*() {
      const home = yield* temporaryDirectory
      for (const name of Object.keys(manifest.bin)) {
        const { code, err, out } = yield* run("npx", ["--offline", "--no-install", name, "--version"], {
          HOME: home,
          PATH: process.env["PATH"] ?? ""
        })
        assert.deepStrictEqual([code, out.trim()], [0, `${name} v${manifest.version}`], err)
      }
    }))
})

describe("the package", () => {
  it.live("holds the three commands with their bundles and man pages, the units, the README and the licence, and nothing else", () =>
    Effect.gen(function*() {
      const home = yield* temporaryDirectory
      const { code, err, out } = yield* run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts", "--offline"], {
        HOME: home,
        PATH: process.env["PATH"] ?? ""
      })
      assert.strictEqual(code, 0, err)
      const answer: PackAnswer = JSON.parse(out)
      // npm 12 gives an object by package name in the place of a list.
      const packed = Object.values(answer)[0]?.files ?? []
      assert.sameMembers(packed.map(({ path }) => path), [
        "LICENSE",
        "README.md",
        "package.json",
        ...["agent", "control-plane"].map((name) => `deploy/systemd/nixfleet-${name}.service`),
        ...Object.keys(sources).flatMap((
          name
        ) => [`dist/${name}.mjs`, `dist/programs/${name}.mjs`, `dist/man/${name}.1`])
      ])
    }))

  it.live("has a man page that names every command of its program, with options and their environment names", () =>
    Effect.gen(function*() {
      for (
        const [name, words] of Object.entries({
          "nixfleet": ["release sign", "--sign-command", "NIXFLEET_CP_URL", "revocation lift", "EXIT STATUS"],
          "nixfleet-agent": ["journal export", "--machine-id", "NIXFLEET_AGENT_MACHINE_ID", "machineId", "78"],
          "nixfleet-control-plane": ["serve", "check", "--deep", "NIXFLEET_CP_STATE_DIR", "/var/lib/nixfleet-cp"]
        })
      ) {
        const page = readFileSync(join(root, `dist/man/${name}.1`), "utf8").replaceAll("\\-", "-")
        assert.match(page, new RegExp(`^\\.TH ${name.toUpperCase()} 1 "" "nixfleet ${manifest.version}"`))
        for (const word of words) assert.include(page, word)
        // A line that begins with a dot is a request; everything else of the texts is protected.
        const requests = page.split("\n").filter((line) => line.startsWith("."))
        assert.deepStrictEqual(requests.filter((line) => !/^\.(?:TH|SH|SS|PP|TP)\b/.test(line)), [])
        const listed = yield* program(name as ProgramName, ["--help"])
        for (const [, command] of listed.out.split("SUBCOMMANDS")[1]?.matchAll(/^ {2}([a-z-]+)/gm) ?? []) {
          assert.match(page, new RegExp(`^\\.SS ${command}`, "m"))
        }
      }
    }))

  const older = olderNode()
  it.live.skipIf(older === undefined)(
    `each command says in one sentence that it needs Node 24${whySkipped(older)}`,
    () =>
      Effect.gen(function*() {
        for (const [name, file] of Object.entries(manifest.bin)) {
          const { code, err, out } = yield* run(older?.file ?? "", [join(root, file), "--version"])
          assert.deepStrictEqual([code, out, err], [
            1,
            "",
            `${name} needs Node 24 or newer and this is ${older?.version}.\n`
          ])
        }
      })
  )
})

describe("completion by bash", () => {
  const completions: ReadonlyArray<readonly [ProgramName, ReadonlyArray<string>, string]> = [
    ["nixfleet", ["relea"], "release"],
    ["nixfleet", ["release", "si"], "sign"],
    ["nixfleet", ["release", "sign", "--sign-c"], "--sign-command"],
    ["nixfleet-agent", ["stat"], "status"],
    ["nixfleet-agent", ["--machine"], "--machine-id"],
    ["nixfleet-control-plane", ["serve", "--listen"], "--listen"]
  ]
  for (const [name, words, expected] of completions) {
    it.live(`of ${name} ${words.join(" ")} is ${expected}`, () =>
      Effect.gen(function*() {
        const script = join(yield* temporaryDirectory, "completions")
        writeFileSync(script, (yield* program(name, ["--completions", "bash"])).out)
        const { err, out } = yield* run("bash", [
          "-c",
          `
          source ${script}
          complete -p ${name} >/dev/null || exit 1
          COMP_WORDS=(${name} ${words.join(" ")}) COMP_CWORD=${words.length} COMP_LINE="${name} ${words.join(" ")}"
          "$(complete -p ${name} | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" ${name} "\${COMP_WORDS[COMP_CWORD]}"
          printf '%s\\n' "\${COMPREPLY[@]}"`
        ], { PATH: process.env["PATH"] ?? "" })
        assert.include(out.split("\n").map((line) => line.trim()), expected, err)
      }))
  }
})

describe("a wrong command line", () => {
  const wrong: ReadonlyArray<readonly [ProgramName, ReadonlyArray<string>, RegExp]> = [
    ["nixfleet", ["relase"], /relase/],
    ["nixfleet", ["status", "--nope"], /--nope/],
    ["nixfleet", ["release", "build", "--out", "x"], /--declaration/],
    ["nixfleet", ["rollout", "hosts", "stable"], /stable/],
    ["nixfleet-agent", ["rum"], /rum/],
    ["nixfleet-agent", ["--nope"], /--nope/],
    ["nixfleet-agent", ["check", "--nope"], /--nope/],
    ["nixfleet-agent", ["run", "--heartbeat-secs"], /heartbeat-secs/],
    ["nixfleet-control-plane", ["serv"], /serv/],
    ["nixfleet-control-plane", ["serve", "--nope"], /--nope/]
  ]
  for (const [name, args, message] of wrong) {
    it.live(`${name} ${args.join(" ")} exits 64 and says what it did not understand`, () =>
      Effect.gen(function*() {
        const { code, err, out } = yield* program(name, args)
        assert.strictEqual(code, 64, err + out)
        assert.match(err, message)
      }))
  }
})

describe("a wrong configuration file", () => {
  const commands: ReadonlyArray<readonly [ProgramName, string]> = [
    ["nixfleet", "status"],
    ["nixfleet-agent", "run"],
    ["nixfleet-agent", "check"],
    ["nixfleet-control-plane", "serve"]
  ]
  const contents: ReadonlyArray<readonly [string, string, RegExp]> = [
    ["truncated", "{\"listen\": ", /is not valid JSON/],
    ["with an unknown key", "{\"colour\":1}", /key colour: unknown key/]
  ]
  for (const [name, verb] of commands) {
    it.live(`exits 78 and is named: ${name} ${verb}`, () =>
      Effect.gen(function*() {
        const file = join(yield* temporaryDirectory, "config.json")
        for (const [what, text, problem] of contents) {
          writeFileSync(file, text)
          const { code, err } = yield* program(name, [verb, "--config", file])
          assert.strictEqual(code, 78, `${what}: ${err}`)
          assert.match(err, problem)
          assert.include(err, file)
        }
      }))
  }
})

/** Everything that an agent's configuration names, in order; nothing of it was ever run. */
const host = Effect.gen(function*() {
  const { authority, caFile, write } = yield* Certificates
  const directory = yield* temporaryDirectory
  const at = (name: string) => join(directory, name)
  const files = write("check-1", authority.agent("check-1"))
  writeFileSync(at("trust.json"), JSON.stringify(trustJson()))
  writeFileSync(at("health.json"), `{"web":{"kind":"tcp","mode":"enforce","port":80}}`)
  mkdirSync(at("archives"))
  const config = {
    controlPlaneUrl: "https://localhost:1",
    machineId: "check-1",
    trustFile: at("trust.json"),
    caCert: caFile,
    clientCert: files.cert,
    clientKey: files.key,
    stateDir: at("state"),
    systemDir: at("systems"),
    archiveSource: at("archives"),
    healthChecksFile: at("health.json")
  }
  const configured = (given: Readonly<Record<string, unknown>> = {}) => {
    writeFileSync(at("agent.json"), JSON.stringify({ ...config, ...given }))
    return at("agent.json")
  }
  return { at, config, configured }
})

describe("nixfleet-agent check", () => {
  layer(Certificates.layer, { excludeTestServices: true })((test) => {
    test.effect("says what is right, exits 0, and changes nothing", () =>
      Effect.gen(function*() {
        const { at, configured } = yield* host
        const { code, err, out } = yield* program("nixfleet-agent", ["check", "--config", configured()])
        assert.strictEqual(code, 0, out + err)
        const lines = out.trim().split("\n")
        assert.deepStrictEqual(lines.filter((line) => !line.startsWith("ok ")), [])
        for (
          const fact of [
            "host check-1, control plane https://localhost:1",
            "release keys current",
            "certificate of agent-check-1.fleet.test",
            "certificate valid from",
            `${at("state")} will be made`,
            `closures come from ${at("archives")}`,
            "1 health checks"
          ]
        ) assert.isTrue(lines.some((line) => line.includes(fact)), `${fact} in\n${out}`)
        assert.isFalse(existsSync(at("state")))
        assert.isFalse(existsSync(at("systems")))
      }))

    test.effect("names everything that is wrong at once, each with its source, and exits 78", () =>
      Effect.gen(function*() {
        const { at, configured } = yield* host
        writeFileSync(at("trust.json"), JSON.stringify(trustJson()).slice(0, 30))
        writeFileSync(at("health.json"), "{\"web\":{\"kind\":\"tcp\"}}")
        mkdirSync(at("state"))
        chmodSync(at("state"), 0o777)
        const config = configured({ machineId: "other-2" })
        const { code, err, out } = yield* program(
          "nixfleet-agent",
          ["check", "--config", config, "--archive-source", at("nowhere")],
          { NIXFLEET_AGENT_STATE_DIR: at("state") }
        )
        assert.strictEqual(code, 78, out)
        const expected = [
          [`file ${config} key trustFile`, `${at("trust.json")}: `],
          [`file ${config} key clientCert`, "the certificate names agent-check-1.fleet.test, this host is other-2"],
          ["environment NIXFLEET_AGENT_STATE_DIR", `others may write ${at("state")}`],
          ["flag --archive-source", `${at("nowhere")} cannot be listed`],
          [`file ${config} key healthChecksFile`, `${at("health.json")}: Missing key`]
        ] as const
        for (const [place, problem] of expected) {
          const line = err.split("\n").find((one) => one.trim().startsWith(`${place}: `) && one.includes(problem))
          assert.isDefined(line, `${place}: ${problem} in\n${err}`)
        }
        assert.lengthOf(out.split("\n").filter((line) => line.startsWith("wrong ")), expected.length)
      }))

    const wrongOnes: ReadonlyArray<
      readonly [string, (here: Effect.Success<typeof host>) => Readonly<Record<string, unknown>>, RegExp]
    > = [
      ["a trust file without an active key", ({ at }) => {
        writeFileSync(at("trust.json"), JSON.stringify(trustJson({})))
        return {}
      }, /key trustFile: .*no release key is active now/],
      ["a malformed key beside a good one", ({ at }) => {
        const { ciReleaseKey } = trustJson()
        const broken = { algorithm: "ed25519", public: "AAAA" }
        writeFileSync(
          at("trust.json"),
          JSON.stringify({ ...trustJson(), ciReleaseKey: { ...Object(ciReleaseKey), previous: broken } })
        )
        return {}
      }, /key trustFile: .*ciReleaseKey\.previous/],
      ["a missing trust file", ({ at }) => ({ trustFile: at("absent") }), /key trustFile: cannot read .*absent/],
      ["a key that is another's", ({ config }) => ({ clientKey: config.caCert }), /is not .* private key|not the key/],
      ["a missing CA file", ({ at }) => ({ caCert: at("absent.pem") }), /absent\.pem/],
      ["no certificate at all", () => ({ clientCert: undefined, clientKey: undefined }), /no client certificate/],
      ["a state directory that is a file", ({ at }) => {
        writeFileSync(at("state"), "")
        return {}
      }, /key stateDir: .*state is not a directory/]
    ]
    for (const [what, change, problem] of wrongOnes) {
      test.effect(`names ${what}`, () =>
        Effect.gen(function*() {
          const here = yield* host
          const { code, err, out } = yield* program("nixfleet-agent", [
            "check",
            "--config",
            here.configured(change(here))
          ])
          assert.strictEqual(code, 78, out)
          assert.match(err, problem)
        }))
    }
  })
})

describe("starting", () => {
  layer(Certificates.layer, { excludeTestServices: true })((test) => {
    const agent = join(root, sources["nixfleet-agent"])

    test.effect("the agent runs with `run` and without a verb alike", () =>
      Effect.gen(function*() {
        const { configured } = yield* host
        for (const verb of [["run"], []]) {
          const running = yield* launch([...verb, "--config", configured()], {}, agent)
          yield* running.line((line) => line["reason"] === "control-plane-unreachable")
          running.process.kill("SIGTERM")
          assert.deepStrictEqual(yield* running.ended, { code: 0, signal: null })
          assert.isTrue(running.log.some((line) => messageOf(line) === "the agent starts"))
        }
      }))

    test.effect("a flag wins over the environment, and that over the file, also for the configuration file itself", () =>
      Effect.gen(function*() {
        const { at, configured } = yield* host
        const config = configured({ machineId: "from-file" })
        const starting = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
          Effect.gen(function*() {
            const running = yield* launch(args, { ...env, NIXFLEET_AGENT_STATE_DIR: at(`state-${args.length}`) }, agent)
            const line = yield* running.line((one) => messageOf(one) === "the agent starts")
            running.process.kill("SIGKILL")
            yield* running.ended
            return line["hostname"]
          })
        const file = { NIXFLEET_AGENT_CONFIG: config }
        assert.strictEqual(yield* starting([], file), "from-file")
        const environment = { ...file, NIXFLEET_AGENT_MACHINE_ID: "from-environment" }
        assert.strictEqual(yield* starting([], environment), "from-environment")
        assert.strictEqual(yield* starting(["--machine-id", "from-flag"], environment), "from-flag")
      }))

    const damaged: ReadonlyArray<readonly [string, string]> = [
      ["journal.db", "a text, and not a database; ".repeat(400)],
      ["trust-memory.db", "a text, and not a database; ".repeat(400)]
    ]
    for (const [file, content] of damaged) {
      test.effect(`an agent whose ${file} is damaged exits 78, names it and leaves it as it is`, () =>
        Effect.gen(function*() {
          const { at, configured } = yield* host
          mkdirSync(at("state"), { mode: 0o700 })
          writeFileSync(at(`state/${file}`), content)
          const { code, err } = yield* program("nixfleet-agent", ["--config", configured()])
          assert.strictEqual(code, 78, err)
          assert.include(err, at(`state/${file}`))
          assert.strictEqual(readFileSync(at(`state/${file}`), "utf8"), content)
        }))
    }

    for (const file of ["journal.db", "trust-memory.json"]) {
      test.effect(`a control plane whose ${file} is damaged exits 78, names it and leaves it as it is`, () =>
        Effect.gen(function*() {
          const { args, stateDir } = yield* site
          mkdirSync(stateDir, { mode: 0o700 })
          const content = "a text, and not what it should be; ".repeat(400)
          writeFileSync(join(stateDir, file), content)
          const running = yield* launch(args)
          assert.strictEqual((yield* running.ended).code, 78)
          assert.include(running.errors() + JSON.stringify(running.log), join(stateDir, file))
          assert.strictEqual(readFileSync(join(stateDir, file), "utf8"), content)
        }))
    }
  })
})
