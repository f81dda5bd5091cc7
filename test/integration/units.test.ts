/**
 * The units that are shipped, under a real systemd: a control plane and an agent on one machine, where `docs/deploy.md` puts
 * them. Under test is what the units say; enrollment and rollouts have tests of their own.
 */
import { assert, describe, it, layer, vi } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { spawnSync } from "node:child_process"
import { chmodSync } from "node:fs"
import { resolve } from "node:path"
import { trustJson } from "../support/artifacts.ts"
import { agentSuffix, Certificates } from "../support/certificates.ts"
import { eventuallyIs, type Fleet, makeFleet } from "../support/fleet.ts"
import { lab, noNix, publishToy } from "../support/nixLab.ts"
import { bootInstalledMachine, type Machine, noMachines } from "../support/nspawn.ts"

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const root = resolve(import.meta.dirname, "../..")
const agent = "nixfleet-agent"
const controlPlane = "nixfleet-control-plane"
const units = [agent, controlPlane] as const
type Unit = typeof units[number]

const unitFile = (unit: Unit) => resolve(root, `deploy/systemd/${unit}.service`)

/** Quicker than the shipped units, so that a test can wait for it. */
const quicker = "[Service]\nWatchdogSec=3\nRestartSec=1\n"

/** `source`: where closures come from, as options of the agent. */
const configure = (
  machine: Machine,
  { authority }: Certificates["Service"],
  source: Readonly<Record<string, unknown>>
) => {
  const json = (file: string, value: unknown) => machine.write(file, JSON.stringify(value))
  for (const program of ["cp", "agent"]) {
    json(`/etc/nixfleet/${program}/trust.json`, trustJson())
    machine.write(`/etc/nixfleet/${program}/ca.pem`, authority.cert)
  }
  const server = authority.server()
  machine.write("/etc/nixfleet/cp/tls.pem", server.cert)
  machine.write("/etc/nixfleet/cp/keys/tls.pem", server.key, 0o600)
  json("/etc/nixfleet/cp/control-plane.json", {
    listen: "127.0.0.1:8443",
    tlsCert: "/etc/nixfleet/cp/tls.pem",
    tlsKey: `/run/credentials/${controlPlane}.service/key_tls.pem`,
    clientCa: "/etc/nixfleet/cp/ca.pem",
    agentCnSuffix: agentSuffix,
    trustFile: "/etc/nixfleet/cp/trust.json",
    releasesSource: "/srv/nixfleet/releases",
    artifactPollSecs: 0.5,
    planSecs: 0.5,
    heartbeatSecs: 1,
    recoveryGraceSecs: 2
  })
  const client = authority.agent("alpha")
  machine.write("/etc/nixfleet/agent/client.pem", client.cert)
  machine.write("/etc/nixfleet/agent/client-key.pem", client.key, 0o600)
  json("/etc/nixfleet/agent/agent.json", {
    controlPlaneUrl: "https://localhost:8443",
    machineId: "alpha",
    trustFile: "/etc/nixfleet/agent/trust.json",
    caCert: "/etc/nixfleet/agent/ca.pem",
    clientCert: "/etc/nixfleet/agent/client.pem",
    clientKey: "/etc/nixfleet/agent/client-key.pem",
    ...source,
    heartbeatSecs: 1,
    manifestPollSecs: 1,
    advanceSecs: 0.5,
    switchPollSecs: 0.2
  })
}

const publish = (machine: Machine, fleet: Fleet) => {
  machine.copy(fleet.at("archives"), "/srv/nixfleet/closures")
  machine.copy(fleet.at("releases"), "/srv/nixfleet/releases")
  chmodSync(`${machine.root}/srv/nixfleet/releases`, 0o755)
  chmodSync(`${machine.root}/srv/nixfleet/releases/rollouts`, 0o755)
}

/** A machine with both programs as services, neither started. */
const bootHost = (source: Readonly<Record<string, unknown>>, options: ReadonlyArray<string> = []) =>
  Effect.gen(function*() {
    const machine = yield* bootInstalledMachine({ name: "alpha", options })
    configure(machine, yield* Certificates, source)
    for (const unit of units) {
      machine.copy(unitFile(unit), `/etc/systemd/system/${unit}.service`)
      machine.write(`/etc/systemd/system/${unit}.service.d/quicker.conf`, quicker)
    }
    yield* machine.must("systemctl daemon-reload")
    const fleet = yield* makeFleet({ hosts: ["alpha"] })
    // Without any release the control plane is not ready, and says so with an answer of 503 for half a minute.
    fleet.publish("00", {})
    publish(machine, fleet)
    return { machine, fleet }
  })

class Host extends Context.Service<Host, { readonly machine: Machine; readonly fleet: Fleet }>()("test/units/Host") {
  static readonly layer = Layer.effect(Host, bootHost({ archiveSource: "/srv/nixfleet/closures" })).pipe(
    Layer.provideMerge(Certificates.layer)
  )
}

const convergence = (machine: Machine) =>
  eventuallyIs(
    "convergence",
    machine.must(`${agent} status --config /etc/nixfleet/agent/agent.json`),
    (text) => /Converged since/.test(text),
    40
  ).pipe(Effect.tapCause(() => Effect.flatMap(messages(machine, agent), (text) => Effect.log(text))))

const show = (machine: Machine, unit: Unit, property: string) =>
  Effect.map(machine.must(`systemctl show --value --property=${property} ${unit}`), (out) => out.trim())

/** Waits for a property. */
const becomes = (machine: Machine, unit: Unit, property: string, value: string) =>
  eventuallyIs(`${unit} ${property}=${value}`, show(machine, unit, property), (found) => found === value, 20)

const messages = (machine: Machine, unit: Unit) => machine.must(`journalctl --no-pager --output=cat --unit=${unit}`)

const ofBoth = <E, R>(check: (machine: Machine, unit: Unit) => Effect.Effect<void, E, R>) =>
  Effect.gen(function*() {
    const { machine } = yield* Host
    yield* Effect.forEach(units, (unit) => check(machine, unit), { concurrency: "unbounded", discard: true })
  })

describe.skipIf(noMachines !== undefined)("under systemd", () => {
  layer(Host.layer, { excludeTestServices: true, timeout: 120_000 })((test) => {
    test.effect("a start that systemd calls done is a program that is ready", () =>
      Effect.gen(function*() {
        const { machine } = yield* Host
        yield* machine.must(`systemctl start ${controlPlane}`)
        yield* machine.must("bash -c 'exec 3<>/dev/tcp/127.0.0.1/8443'")
        yield* machine.must(`systemctl start ${agent}`)
        for (const unit of units) {
          assert.deepStrictEqual(
            [yield* show(machine, unit, "ActiveState"), yield* show(machine, unit, "NRestarts")],
            ["active", "0"]
          )
        }
      }))

    test.effect("the state is where systemd made it: the control plane's its own user's, the agent's root's", () =>
      Effect.gen(function*() {
        const { machine } = yield* Host
        assert.strictEqual(
          (yield* machine.must(
            "stat -L -c '%U %a' /var/lib/nixfleet-cp/journal.db /var/lib/nixfleet-cp /var/lib/nixfleet-agent/journal.db"
          )).trim(),
          "nixfleet-cp 600\nnixfleet-cp 700\nroot 600"
        )
        assert.notStrictEqual((yield* machine.run("setpriv --reuid=nobody cat /etc/nixfleet/cp/keys/tls.pem")).code, 0)
      }))

    test.effect("a switch runs outside of the agent's confinement, survives the restart of the agent, and converges", () =>
      Effect.gen(function*() {
        const { fleet, machine } = yield* Host
        const before = yield* show(machine, agent, "MainPID")
        // What the sandbox forbids to the agent: other places of the disk, and a look at all of the host.
        const closure = yield* fleet.pack(
          "r1",
          `touch /usr/switched && systemctl restart ${agent} && sleep 1 && touch /usr/switched-after-restart`
        )
        fleet.publish("01", { alpha: closure })
        publish(machine, fleet)
        yield* convergence(machine)
        assert.notStrictEqual(yield* show(machine, agent, "MainPID"), before)
        yield* machine.must("ls /usr/switched /usr/switched-after-restart")
        assert.strictEqual(
          (yield* machine.must("readlink /var/lib/nixfleet-system/current-system")).trim(),
          `/var/lib/nixfleet-system/store/${closure}`
        )
        // Services of the host that are not root run the programs of its closure.
        yield* machine.must("setpriv --reuid=nobody cat /var/lib/nixfleet-system/current-system/etc/version")
      }))

    test.effect("a new system without an agent is taken back by the guard, and the old one's agent tells why", () =>
      Effect.gen(function*() {
        const { fleet, machine } = yield* Host
        const environment = "/etc/nixfleet/agent/environment"
        machine.write(environment, "NIXFLEET_AGENT_GUARD_WINDOW_SECS=3\nNIXFLEET_AGENT_SWITCH_TIMEOUT_SECS=5\n")
        yield* machine.must(`systemctl restart ${agent}`)
        const note = "echo \"$NIXFLEET_CLOSURE\" >>/root/switches"
        const [file, away] = [`/etc/systemd/system/${agent}.service`, `/root/${agent}.service`]
        const withAgent =
          `{ [ ! -e ${away} ] || mv ${away} ${file}; } && systemctl daemon-reload && systemctl start ${agent}`
        const good = yield* fleet.pack("r2", `${note} && ${withAgent}`)
        const bad = yield* fleet.pack("r3", `${note} && systemctl stop ${agent} && mv ${file} ${away}`)
        const status = machine.run(`${agent} status --config /etc/nixfleet/agent/agent.json`)
        const shows = (ref: string, state: RegExp) =>
          eventuallyIs(
            `${ref} ${state}`,
            status,
            ({ out }) => new RegExp(`stable@${ref} .*${state.source}`).test(out),
            40
          )
        fleet.publish("02", { alpha: good })
        publish(machine, fleet)
        yield* shows("02", /Converged/)
        fleet.publish("03", { alpha: bad })
        publish(machine, fleet)
        yield* eventuallyIs(
          "a guard",
          machine.run("systemctl list-units 'nixfleet-guard-*'"),
          ({ out }) => out.includes(" running "),
          20
        )
        // It is started again when it is killed, and goes on; it outlives a shutdown, which stops it, and the next boot
        // starts what its target wants.
        yield* machine.must("systemctl kill --signal=KILL 'nixfleet-guard-*'")
        const ofNextBoot = "ls /etc/systemd/system.control/multi-user.target.wants"
        const guard = (yield* machine.must(ofNextBoot)).trim()
        yield* machine.must(`systemctl stop ${guard} && systemctl daemon-reload && systemctl start ${guard}`)
        yield* shows("03", /Reverted.*guard/)
        const switches = (yield* machine.must("cat /root/switches")).trim().split("\n").map((path) =>
          path.split("/").at(-1)
        )
        assert.deepStrictEqual(switches, [good, bad, good])
        assert.strictEqual(yield* machine.must(ofNextBoot), "")
        yield* becomes(machine, agent, "ActiveState", "active")
        yield* machine.must(`rm ${environment} && systemctl restart ${agent}`)
      }))

    test.effect("a switch that makes systemd reload, and is then killed, leaves a result", () =>
      Effect.gen(function*() {
        const { fleet, machine } = yield* Host
        const killed = "systemctl daemon-reload && systemctl kill --signal=KILL nixfleet-switch"
        const closure = yield* fleet.pack("r4", `echo "$NIXFLEET_CLOSURE" >>/root/killed && ${killed} && sleep 10`)
        fleet.publish("04", { alpha: closure })
        publish(machine, fleet)
        yield* eventuallyIs(
          "the way back",
          machine.run(`${agent} status --config /etc/nixfleet/agent/agent.json`),
          ({ out }) => /stable@04 .*Reverted/.test(out),
          40
        )
        // Without a result it would have been begun again.
        assert.strictEqual((yield* machine.must("cat /root/killed")).trim().split("\n").length, 1)
      }))

    test.effect("they keep their watchdog content, and one that hangs is started anew", () =>
      ofBoth(Effect.fnUntraced(function*(machine, unit) {
        const restarts = Number(yield* show(machine, unit, "NRestarts"))
        const main = yield* show(machine, unit, "MainPID")
        yield* Effect.sleep("4 seconds")
        assert.strictEqual(yield* show(machine, unit, "MainPID"), main)
        yield* machine.must(`kill -STOP ${main}`)
        yield* becomes(machine, unit, "NRestarts", String(restarts + 1))
        assert.match(yield* messages(machine, unit), /Watchdog timeout/)
        yield* becomes(machine, unit, "ActiveState", "active")
      })))

    test.effect("they are started anew after kill -9", () =>
      ofBoth(Effect.fnUntraced(function*(machine, unit) {
        const restarts = Number(yield* show(machine, unit, "NRestarts"))
        yield* machine.must(`systemctl kill --kill-whom=main --signal=KILL ${unit}`)
        yield* becomes(machine, unit, "NRestarts", String(restarts + 1))
        yield* becomes(machine, unit, "ActiveState", "active")
      })))

    test.effect("they end with 0 when they are stopped, in time", () =>
      ofBoth(Effect.fnUntraced(function*(machine, unit) {
        const begun = performance.now()
        yield* machine.must(`systemctl stop ${unit}`)
        // D18, and a second for systemd.
        assert.isBelow(performance.now() - begun, 3000)
        assert.deepStrictEqual(
          [yield* show(machine, unit, "Result"), yield* show(machine, unit, "ExecMainStatus")],
          ["success", "0"]
        )
        yield* machine.must(`systemctl start ${unit}`)
      })))

    test.effect("they stay down with a configuration that cannot be used", () =>
      ofBoth(Effect.fnUntraced(function*(machine, unit) {
        const file = unit === agent ? "/etc/nixfleet/agent/agent.json" : "/etc/nixfleet/cp/control-plane.json"
        yield* machine.must(`systemctl stop ${unit}; cp ${file} ${file}.good; echo '{' >${file}`)
        assert.notStrictEqual((yield* machine.run(`systemctl start ${unit}`)).code, 0)
        // Longer than the pause before a restart.
        yield* Effect.sleep("2 seconds")
        assert.deepStrictEqual(
          [
            yield* show(machine, unit, "ActiveState"),
            yield* show(machine, unit, "ExecMainStatus"),
            yield* show(machine, unit, "NRestarts")
          ],
          ["failed", "78", "0"]
        )
        yield* machine.must(`mv ${file}.good ${file}; systemctl start ${unit}`)
      })))
  })
})

describe.skipIf(noMachines !== undefined || noNix !== undefined)("under systemd, with Nix", () => {
  layer(Certificates.layer, { excludeTestServices: true })((test) => {
    test.effect("the confined agent fetches a closure, sets the profile and switches", () =>
      Effect.gen(function*() {
        const closure = yield* publishToy("r1", "good")
        const { fleet, machine } = yield* bootHost({}, ["--tmpfs=/nix", `--bind-ro=${lab().cache}:/srv/cache`])
        machine.write(
          "/etc/nix/nix.conf",
          `substituters = file:///srv/cache\ntrusted-public-keys = ${yield* Effect.promise(() => lab().trustedKey)}\n` +
            "build-users-group =\n"
        )
        fleet.publish("01", { alpha: closure })
        publish(machine, fleet)
        yield* machine.must(`systemctl start ${controlPlane} ${agent}`)
        yield* convergence(machine)
        const path = `/nix/store/${closure}`
        assert.strictEqual(
          yield* machine.must("readlink /run/current-system; readlink -f /nix/var/nix/profiles/system"),
          `${path}\n${path}\n`
        )
        yield* machine.must(`nix-store --verify-path ${path}`)
      }))
  })
})

/** Why units cannot be scored here. */
const noScores: string | undefined = (() => {
  if (spawnSync("systemd-analyze", ["--version"]).status === 0) return undefined
  const reason = "scores of units need systemd-analyze (Debian package systemd)"
  if (process.env["CI"] !== undefined) throw new Error(reason)
  console.log(`skipped: ${reason}`)
  return reason
})()

/** systemd's own exposure levels, from 0 (nothing) to 10, as of systemd 252; a release that judges otherwise changes them. */
const exposure: Readonly<Record<Unit, number>> = { [agent]: 2.6, [controlPlane]: 1.3 }

describe.skipIf(noScores !== undefined)("the exposure that systemd sees in", () => {
  for (const unit of units) {
    it(`${unit} is at most ${exposure[unit]}`, () => {
      const { stdout } = spawnSync("systemd-analyze", ["security", "--offline=yes", "--no-pager", unitFile(unit)], {
        encoding: "utf8"
      })
      const found = /Overall exposure level for \S+: ([0-9.]+)/.exec(stdout)
      assert.isAtMost(Number(found?.[1]), exposure[unit], stdout)
    })
  }
})
