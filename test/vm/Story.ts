/**
 * The life of one host, from its first release on, through power cuts, reboots, and systems that are bad for it. Each chapter
 * begins with a host that has converged, and leaves one behind.
 */
import { Effect, Schema } from "effect"
import type { Builder } from "../../examples/nix/Builder.ts"
import { ExportLine } from "../../src/Schema/AgentExport.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import { eventually, eventuallyIs, type Fleet } from "../support/fleet.ts"
import type { NixCache } from "../support/nixCache.ts"
import type { Checks } from "./Checks.ts"
import type { Machine } from "./Machine.ts"

export const host = "vm"
export const agentConfigFile = "/etc/nixfleet/agent/agent.json"

export interface World {
  readonly machine: Machine
  readonly fleet: Fleet
  readonly builder: Builder
  readonly cache: NixCache
  readonly checks: Checks
}

/** Emulated machines are slow. */
const patience = 420
const decodeLine = Schema.decodeUnknownSync(Schema.fromJsonString(ExportLine))
const program = `#!/bin/sh\nexec /usr/local/lib/vm/switch "$(readlink -f "\${0%/bin/*}")"\n`

/** What the agent's journal says of a rollout. */
interface Journaled {
  readonly record: HostRecord | undefined
  /** Kinds of its events, in their order. */
  readonly events: ReadonlyArray<string>
}

export class Story {
  readonly #world: World
  #releases = 0

  constructor(world: World) {
    this.#world = world
  }

  /** Builds, signs and publishes the next release. `extra`: shell text that adds to the system in `$out`. */
  #release(soakSeconds: number, extra = "") {
    const { builder, fleet } = this.#world
    return Effect.gen({ self: this }, function*() {
      const name = `r${this.#releases += 1}`
      const closure = yield* Effect.promise(() => builder.publish({ name: `vm-${name}`, program, extra }))
      const id = fleet.publish(`0f3c9a${String(this.#releases).padStart(2, "0")}`, { [host]: closure }, {
        waves: [{ selector: { tags: [], tagsAny: [], hosts: [], channel: null, all: true }, soakSeconds }]
      })
      return { name, id, path: `/nix/store/${closure}` }
    })
  }

  /** Waits until the control plane says so of the host. */
  #is(id: string, state: string) {
    return eventuallyIs(`${id} is ${state}`, this.#world.fleet.states(id), (states) => states[host] === state, patience)
  }

  /** Waits until the host has come to a moment of `guest/usr/local/lib/vm/moment`, and stands still there. */
  #moment(name: string) {
    const { machine } = this.#world
    const times = () => machine.log.split(`moment: ${name}`).length
    return Effect.gen(function*() {
      yield* machine.must(`echo ${name} >/run/vm-moment`)
      const before = times()
      return eventually(`the moment ${name}`, () => times() > before, patience)
    })
  }

  get #links() {
    return Effect.map(
      this.#world.machine.must("readlink /run/current-system; readlink -f /nix/var/nix/profiles/system"),
      (out) => out.split("\n")
    )
  }

  get #profileAtBoot() {
    return this.#world.machine.must("cat /run/profile-at-boot")
  }

  #journaled(id: string) {
    return Effect.map(
      this.#world.machine.must(`nixfleet-agent journal export --config ${agentConfigFile}`),
      (out): Journaled => {
        let record: HostRecord | undefined
        const events: Array<string> = []
        for (const text of out.split("\n").filter((line) => line.startsWith("{"))) {
          const line = decodeLine(text)
          if (line.line === "record" && line.rolloutId === id) record = line.record
          if (line.line !== "row" || line.rolloutId !== id) continue
          if (line.entry._tag === "Stepped" || line.entry._tag === "Opened") events.push(line.entry.event.kind)
        }
        return { record, events }
      }
    )
  }

  /** Which switches of a release began and ended, by the switch's own notes. */
  #switches(name: string) {
    return Effect.map(
      this.#world.machine.run(`grep ' ${name}$' /var/lib/vm/switches | cut -d' ' -f1`),
      ({ out }) => out.trim().split("\n").filter((line) => line !== "").join(" ")
    )
  }

  /** Cuts the power and switches on again, with a look at what the disk forgot. */
  get #powerCut() {
    const { checks, machine } = this.#world
    return Effect.gen(function*() {
      yield* machine.must("echo kept >/var/lib/vm/flushed; rm -f /var/lib/vm/lost; sync -f /var/lib/vm")
      return Effect.gen(function*() {
        yield* machine.must("echo lost >/var/lib/vm/lost")
        yield* machine.cut
        checks.say("the power is cut")
        yield* machine.on
        const { out } = yield* machine.run("cat /var/lib/vm/flushed /var/lib/vm/lost 2>/dev/null")
        checks.is("the cut took what was not flushed, and nothing else", out.trim(), "kept")
      })
    })
  }

  /** The host has come to the release, by so many starts of its switch. */
  #arrived(release: { readonly id: string; readonly name: string; readonly path: string }, starts: number) {
    const { checks, machine } = this.#world
    return Effect.gen({ self: this }, function*() {
      yield* this.#is(release.id, "Converged")
      checks.is("running system and profile are the release", yield* this.#links, [release.path, release.path])
      const { events } = yield* this.#journaled(release.id)
      const count = (kind: string) => events.filter((one) => one === kind).length
      checks.is(
        "the activation was begun and completed so often",
        [count("ActivationStarted"), count("ActivationCompleted"), count("ActivationFailed")],
        [starts, 1, 0]
      )
      const { code, out } = yield* machine.run(`nixfleet-agent check --deep --config ${agentConfigFile}`)
      checks.that(
        "the journal opens, and its records are what its rows mean",
        code === 0,
        out.split("\n").find((line) => line.includes("rows mean"))?.replace(/^.*journal.db: /, "") ?? out
      )
    })
  }

  get #firstRelease() {
    const { checks, machine } = this.#world
    return Effect.gen({ self: this }, function*() {
      const release = yield* this.#release(2)
      yield* this.#arrived(release, 1)
      checks.is("the switch ran once", yield* this.#switches(release.name), "begins ends")
      yield* machine.must(`nix-store --verify-path ${release.path}`)
      checks.that(
        "the switch ran as a unit of systemd",
        machine.log.includes("nixfleet-switch.service"),
        "nixfleet-switch.service"
      )
    })
  }

  get #cutWhileFetching() {
    const { cache, checks } = this.#world
    return Effect.gen({ self: this }, function*() {
      const [, before] = yield* this.#links
      const cut = yield* this.#powerCut
      const asked = cache.requests.length
      cache.faults = [{ match: /^\/nar\//, does: { slow: 500 } }]
      const release = yield* this.#release(2)
      const fetching = () => cache.requests.slice(asked).some((path) => path.startsWith("/nar/"))
      yield* eventually("the fetch", fetching, patience)
      yield* cut
      cache.faults = []
      checks.is("the profile is the one before", yield* this.#profileAtBoot, before)
      yield* this.#arrived(release, 1)
      checks.is("the switch ran once", yield* this.#switches(release.name), "begins ends")
    })
  }

  get #cutBeforeFlush() {
    const { checks, fleet } = this.#world
    return Effect.gen({ self: this }, function*() {
      const [, before] = yield* this.#links
      const cut = yield* this.#powerCut
      const reached = yield* this.#moment("profile-set")
      const release = yield* this.#release(2)
      yield* reached
      const states = yield* fleet.states(release.id)
      yield* cut
      checks.is("nothing of the new profile had been reported", states[host], "Activating")
      const profile = yield* this.#profileAtBoot
      const which = profile === before ? "the one before" : profile === release.path ? "the new one" : profile
      checks.that("the profile is whole", which !== profile, which)
      yield* this.#arrived(release, 2)
      checks.is("the switch ran once", yield* this.#switches(release.name), "begins ends")
    })
  }

  get #cutBeforeSwitch() {
    const { checks } = this.#world
    return Effect.gen({ self: this }, function*() {
      const [before] = yield* this.#links
      const cut = yield* this.#powerCut
      const reached = yield* this.#moment("switch-starts")
      const release = yield* this.#release(2)
      yield* reached
      yield* cut
      checks.is("the profile that was set before the switch is still set", yield* this.#profileAtBoot, release.path)
      const [running] = yield* this.#links
      checks.that(
        "the host came back with the system before, or has switched by now",
        [before, release.path].includes(running),
        running ?? ""
      )
      yield* this.#arrived(release, 2)
      checks.is("the switch ran once", yield* this.#switches(release.name), "begins ends")
    })
  }

  get #cutInSwitch() {
    const { checks } = this.#world
    return Effect.gen({ self: this }, function*() {
      const cut = yield* this.#powerCut
      const reached = yield* this.#moment("switching")
      const release = yield* this.#release(2)
      yield* reached
      yield* cut
      checks.is("the profile is the new one", yield* this.#profileAtBoot, release.path)
      yield* this.#arrived(release, 2)
      checks.is("the switch was begun again, and ended once", yield* this.#switches(release.name), "begins begins ends")
    })
  }

  get #cutInSoak() {
    const { checks } = this.#world
    return Effect.gen({ self: this }, function*() {
      const cut = yield* this.#powerCut
      const release = yield* this.#release(25)
      yield* this.#is(release.id, "Soaking")
      yield* cut
      checks.is("the profile is what was reported", yield* this.#profileAtBoot, release.path)
      yield* this.#arrived(release, 1)
      checks.is("the switch ran once", yield* this.#switches(release.name), "begins ends")
    })
  }

  get #offInSoak() {
    const { checks, machine } = this.#world
    const soakSeconds = 30
    return Effect.gen({ self: this }, function*() {
      const release = yield* this.#release(soakSeconds)
      yield* this.#is(release.id, "Soaking")
      yield* Effect.sleep("8 seconds")
      const offAt = Date.now()
      yield* machine.run("systemctl poweroff --no-block")
      yield* machine.off
      checks.say(`off for ${soakSeconds + 10} s, which is longer than the soak`)
      yield* Effect.sleep(`${soakSeconds + 10} seconds`)
      yield* machine.on
      yield* this.#arrived(release, 1)
      const { record } = yield* this.#journaled(release.id)
      if (record?.state !== "Converged") return yield* Effect.die(new Error(`the record is ${JSON.stringify(record)}`))
      const [started] = /[^"]*(?=","level":"info","target":"agent_boot")/.exec(
        machine.log.slice(machine.log.lastIndexOf("--- off ---"))
      ) ?? []
      const before = (offAt - record.activationCompletedAt) / 1000
      const after = (record.convergedAt - Date.parse(started ?? "")) / 1000
      checks.that(
        "the soak went on where it was, and the time off did not count",
        // The agent's look at the soak is every half second, and its end was not at once.
        after > soakSeconds - before - 3,
        `it soaked ${Math.round(before)} s of ${soakSeconds} before, and converged ${
          Math.round(after)
        } s after the agent's next start`
      )
    })
  }

  /** The release was taken back, the control plane knows why, and the next boot does not. */
  #tookBack(id: string, path: string | undefined, cause: string) {
    const { checks, machine } = this.#world
    return Effect.gen({ self: this }, function*() {
      yield* this.#is(id, "Reverted")
      checks.is("running system and profile are the good ones", yield* this.#links, [path, path])
      const { events, record } = yield* this.#journaled(id)
      const found = record?.state === "Reverted" ? record.cause : record?.state
      checks.is("the record says why", found, cause)
      checks.is("there was one way back", events.filter((one) => one === "RollbackComplete").length, 1)
      const ofNextBoot = machine.must("ls /etc/systemd/system.control/multi-user.target.wants")
      const left = yield* eventuallyIs("the guard's end", ofNextBoot, (names) => names === "", patience)
      checks.is("no guard is left for the next boot", left, "")
    })
  }

  get #mute() {
    const { checks, machine } = this.#world
    return Effect.gen({ self: this }, function*() {
      const [good] = yield* this.#links
      const cut = yield* this.#powerCut
      const unit = "[Service]\\nType=exec\\nRestartSec=5\\nExecStart=\\nExecStart=/bin/false\\n"
      const directory = "$out/units/nixfleet-agent.service.d"
      const release = yield* this.#release(600, `mkdir -p ${directory}; printf '${unit}' >${directory}/mute.conf`)
      yield* eventuallyIs("the switch", this.#switches(release.name), (noted) => noted === "begins ends", patience)
      yield* cut
      checks.that(
        "the agent of the new system does not come up",
        (yield* machine.run("systemctl is-active nixfleet-agent")).out.trim() !== "active",
        "after the power cut as before it"
      )
      yield* this.#tookBack(release.id, good, "guard-fired")
    })
  }

  get #bootLoop() {
    const { checks, machine } = this.#world
    return Effect.gen({ self: this }, function*() {
      const [good] = yield* this.#links
      const before = machine.boots.length
      const unit =
        "[Unit]\\nAfter=nixfleet-agent.service\\n[Service]\\nExecStart=/bin/sh -c \\\"sleep 60; systemctl reboot\\\"\\n"
      const wants = "$out/units/multi-user.target.wants"
      const release = yield* this.#release(
        600,
        `mkdir -p ${wants}; printf "${unit}" >$out/units/vm-reboots.service; ln -s ../vm-reboots.service ${wants}/`
      )
      for (let boot = 1; boot <= 3; boot += 1) {
        yield* machine.booted(before + boot)
        checks.say(`boot ${boot} of ${release.name}`)
      }
      yield* this.#tookBack(release.id, good, "boot-loop")
      const { out } = yield* machine.run("systemctl is-active vm-reboots")
      checks.is("what rebooted it is not there any more, after so many boots", [
        out.trim(),
        machine.boots.length - before
      ], ["inactive", 3])
    })
  }

  get #lastRelease() {
    return Effect.gen({ self: this }, function*() {
      yield* this.#arrived(yield* this.#release(2), 1)
    })
  }

  /** Every chapter, in its order. */
  get chapters() {
    return [
      ["A rollout, with a real Nix and a real systemd", this.#firstRelease],
      ["A power cut while the closure is fetched, before the profile is set", this.#cutWhileFetching],
      ["A power cut right after nix-env has set the profile, before it is flushed", this.#cutBeforeFlush],
      ["A power cut after the profile is durable, just before the switch starts", this.#cutBeforeSwitch],
      ["A power cut while the switch runs", this.#cutInSwitch],
      ["A power cut while the release soaks", this.#cutInSoak],
      ["The machine is switched off in the middle of a soak", this.#offInSoak],
      ["A release whose agent does not come up, and a power cut on top", this.#mute],
      ["A release that reboots the machine again and again", this.#bootLoop],
      ["A good release after all of that", this.#lastRelease]
    ] as const
  }
}
