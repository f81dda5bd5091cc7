/**
 * `docs/deploy.md`, word for word: its commands run on four machines with systemd, and show what it says, up to times, hashes
 * and keys. `DEPLOY_TRANSCRIPT=<file>` also writes the document as this run had it, with the outputs of now.
 *
 * Their system is this machine's, without anything that did not come from packages; or, with `DEPLOY_DEBIAN=<directory>`, a
 * Debian from `debootstrap --variant=minbase --include=systemd,dbus,openssh-server,openssh-client bookworm <directory>`.
 *
 * What the document takes for granted is arranged here: Node 24 on two machines, names, ssh; and the results of its build.
 */
import { assert, describe, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { temporaryDirectory } from "../support/directories.ts"
import { runDocument } from "../support/document.ts"
import { buildExecutable } from "../support/executable.ts"
import { bootMachine, type Machine, noMachines } from "../support/nspawn.ts"

vi.setConfig({ testTimeout: 400_000 })

const root = resolve(import.meta.dirname, "../..")

const names = ["admin", "cp", "alpha", "bravo"] as const
type Name = typeof names[number]

const nameOf = (prompt: string): Name => names.find((name) => `${name}# ` === prompt)!

/** The results of the document's build, from this checkout. */
const build = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  for (
    const [command, args] of [
      [process.execPath, ["scripts/bundle.mjs", "--if-stale"]],
      ["npm", ["pack", "--ignore-scripts", "--offline", `--pack-destination=${directory}`]]
    ] as const
  ) {
    const { status, stderr } = spawnSync(command, args, {
      cwd: root,
      encoding: "utf8",
      env: { PATH: process.env["PATH"] ?? "", HOME: directory }
    })
    assert.strictEqual(status, 0, stderr)
  }
  const archive = readdirSync(directory).find((name) => name.endsWith(".tgz")) ?? ""
  return { archive: join(directory, archive), name: archive, agent: buildExecutable().file }
})

/** Only what Debian's packages brought; Node where the document asks for it. */
const bootOne = (name: Name, network: Machine | undefined) =>
  bootMachine({
    name,
    lower: process.env["DEPLOY_DEBIAN"] ?? "/",
    ...(network === undefined ? {} : { network }),
    options: [
      ...["/root", "/srv", "/opt", "/usr/local"].map((place) => `--tmpfs=${place}:mode=0755`),
      ...(name === "admin" || name === "cp" ? [`--bind-ro=${process.execPath}:/usr/local/bin/node`] : [])
    ]
  })

const addressOf = (name: Name): string => `127.0.1.${names.indexOf(name) + 1}`
const hosts = ["127.0.0.1 localhost", ...names.map((name) => `${addressOf(name)} ${name}`), ""].join("\n")

/** Four machines that reach each other by name, `admin` the others by ssh. */
const bootAll = Effect.gen(function*() {
  const admin = yield* bootOne("admin", undefined)
  const [cp, alpha, bravo] = yield* Effect.all(
    (["cp", "alpha", "bravo"] as const).map((name) => bootOne(name, admin)),
    { concurrency: "unbounded" }
  )
  if (cp === undefined || alpha === undefined || bravo === undefined) return yield* Effect.die("a machine is missing")
  admin.write("/root/.ssh/config", "StrictHostKeyChecking accept-new\nLogLevel ERROR\n", 0o600)
  yield* admin.must("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
  const key = readFileSync(join(admin.root, "root/.ssh/id_ed25519.pub"), "utf8")
  const machines: Readonly<Record<Name, Machine>> = { admin, cp, alpha, bravo }
  for (const name of names) {
    const machine = machines[name]
    machine.write("/etc/hosts", hosts)
    machine.write("/etc/ssh/sshd_config", `ListenAddress ${addressOf(name)}\nSubsystem sftp internal-sftp\n`)
    machine.write("/root/.ssh/authorized_keys", key, 0o600)
    yield* machine.must(
      "mkdir -p /usr/local/bin; rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; systemctl start ssh"
    )
  }
  return machines
})

/** Runs a command where the last one on that machine left off; all that it showed. */
const runAs = (machine: Machine, text: string) =>
  machine.run(
    `cd "$(cat /run/where 2>/dev/null || echo /root)"\nexec 2>&1\n${text}\ncode=$?\npwd >/run/where\nexit $code`
  )

/** For whoever has to find out what went wrong. */
const logsOf = (machines: Readonly<Record<Name, Machine>>) =>
  Effect.map(
    Effect.forEach(names, (name) =>
      machines[name].run("journalctl --no-pager --lines=25 --output=cat --unit='nixfleet-*'")),
    (logs) =>
      logs.map(({ out }, at) => `--- ${names[at]}\n${out}`).join("\n")
  )

/** Why the machines cannot reach each other; in CI they must. */
const noSsh: string | undefined = (() => {
  if (existsSync("/usr/sbin/sshd")) return undefined
  const reason = "the deployment document is run with openssh-server (apt-get install)"
  if (process.env["CI"] !== undefined) throw new Error(reason)
  console.log(`skipped: ${reason}`)
  return reason
})()

describe.skipIf(noMachines !== undefined || noSsh !== undefined)("docs/deploy.md", () => {
  it.live("does what it says", () =>
    Effect.gen(function*() {
      const built = yield* build
      const machines = yield* bootAll
      machines.admin.copy(built.archive, `/root/${built.name}`)
      machines.admin.copy(built.agent, "/root/nixfleet-agent")
      yield* runDocument({
        markdown: readFileSync(join(root, "docs/deploy.md"), "utf8"),
        prompts: names.map((name) => `${name}# `),
        run: (prompt, text) => runAs(machines[nameOf(prompt)], text),
        logs: logsOf(machines),
        transcript: process.env["DEPLOY_TRANSCRIPT"]
      })
    }))
})
