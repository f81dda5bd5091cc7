/**
 * `npm run demo [-- --driver nix] [-- --stay]`: one control plane and six agents, real processes with mutual TLS 1.3 over loopback, and
 * three stories: a release reaches every wave; a bad one is stopped at the canary, which goes back by itself; its repair
 * reaches all, after a manifest that was changed on the way was refused by everybody. Hosts unpack archives, or have a real
 * Nix each and a signed binary cache; those also refuse a closure that a stranger has signed. With `--stay` only the first
 * story is told, and the fleet runs on for its operator.
 *
 * Waits on facts that the control plane reports, each with a limit; anything unexpected ends the demo with exit 1 and the
 * reason. What it leaves behind stays in `.demo/` to be looked at.
 */
import { readFileSync } from "node:fs"
import { createServer } from "node:net"
import { join, relative, resolve } from "node:path"
import { archiveHosts } from "./demo/ArchiveHosts.ts"
import { ControlPlaneClient } from "./demo/ControlPlaneClient.ts"
import {
  agentArguments,
  build,
  cadences,
  controlPlaneArguments,
  hosts,
  type Layout,
  makeLayout,
  publish,
  sign,
  tamper,
  writeConnection
} from "./demo/Fleet.ts"
import type { HostDriver } from "./demo/HostDriver.ts"
import { startLyingControlPlane } from "./demo/LyingControlPlane.ts"
import { nixHosts } from "./demo/NixHosts.ts"
import { readOptions } from "./demo/Options.ts"
import { nodeCommand, Processes, runOnce } from "./demo/Processes.ts"
import { Screen } from "./demo/Screen.ts"
import { startService } from "./demo/Services.ts"
import { explain, Watcher } from "./demo/Watcher.ts"

const checkout = resolve(import.meta.dirname, "..")
const bundle = (name: string) => join(checkout, "dist", `${name}.mjs`)
const nixfleet = bundle("nixfleet")
const { driver: driverName, root, soakSeconds, stay } = readOptions(join(checkout, ".demo"))
const canary = hosts[0][0]
const others = hosts.slice(1).map(([host]) => host)

const screen = new Screen()
let failed: (why: string) => void = () => {}
const failure = new Promise<never>((_resolve, reject) => {
  failed = (why) => reject(new Error(why))
})
const processes = new Processes(
  root,
  (name, how) => failed(`${name} ended by itself: ${how}; its log is in ${relative(checkout, root)}/log/${name}.log`)
)
const services = new Map<string, number>()

/** Below the ports that the kernel gives to connections, so that nobody takes it before the control plane does. */
async function freePort(): Promise<number> {
  const port = 20_000 + Math.floor(Math.random() * 12_000)
  const server = createServer()
  try {
    await new Promise<void>((done, refused) => server.once("error", refused).listen(port, "127.0.0.1", done))
  } catch {
    return await freePort()
  }
  await new Promise((done) => server.close(done))
  return port
}

function startAgent(layout: Layout, driver: HostDriver, host: string, controlPlanePort: number): void {
  const args = agentArguments(layout, driver, host, services.get(host)!, controlPlanePort)
  processes.start(host, driver.agent(host, args), join(root, "log", `${host}.log`))
}

/** One phase of the story: its time goes into the summary. */
const phases: Array<readonly [string, number]> = []
async function phase(title: string, story: () => Promise<void>): Promise<void> {
  screen.heading(title)
  const begun = performance.now()
  await Promise.race([story(), failure])
  phases.push([title, (performance.now() - begun) / 1000])
}

/** Builds what an operator can publish next, says how, and lets the fleet run until it is ended from outside. */
async function runOn(
  layout: Layout,
  closures: ReadonlyMap<string, string>,
  connection: string,
  releases: ReadonlyArray<readonly [ref: string, name: string]>
): Promise<never> {
  const show = (path: string) => relative(process.cwd(), path) || "."
  screen.heading("The fleet runs until Ctrl-C. In another terminal:")
  screen.say(`export NIXFLEET_CONFIG=${show(connection)}`)
  screen.say("npx nixfleet status")
  for (const [ref, name] of releases) {
    const built = show(await build(layout, nixfleet, { ref, closure: closures.get(name)!, soakSeconds }))
    const publishing = `--dir ${built} --key ${show(layout.key)} --out ${show(layout.releases)}`
    screen.say(`npx nixfleet release sign ${publishing}   # ${name} becomes stable@${ref}`)
  }
  screen.say(`touch ${show(join(root, "outage"))}   # every web service answers 503 until it is removed`)
  return await failure
}

async function demo(): Promise<void> {
  screen.say(
    `nixfleet demo: 1 control plane, ${
      driverName === "nix" ? "6 hosts with a real Nix" : "6 agents"
    }, mutual TLS 1.3 on loopback. Ctrl-C ends it at any time.`
  )
  screen.say(
    `Shortened for the demo (usual value): soak ${soakSeconds} s (minutes to hours), heartbeat ${cadences.heartbeat} s (60), ` +
      `poll ${cadences.poll} s (60), probe ${cadences.probe} s (30), sustained failure ${cadences.sustainedFailure} s (120), ` +
      `look for releases ${cadences.artifacts} s (30).`
  )
  const port = await freePort()
  let layout!: Layout
  let driver!: HostDriver
  let watcher!: Watcher
  let client!: ControlPlaneClient
  const closures = new Map<string, string>()

  /** A release that the canary stopped has reached nobody else. */
  const untouched = async (rolloutId: string) => {
    const touched = await watcher.touched(rolloutId, others)
    if (touched.length > 0) throw new Error(`${rolloutId} touched ${touched.join(", ")}, which it must not`)
  }
  const release = (ref: string, closure: string) => sign(layout, nixfleet, { ref, closure, soakSeconds })

  await phase("Set-up: authority, keys, closures", async () => {
    layout = await makeLayout(root, nixfleet)
    screen.tell(`working folder ${relative(checkout, root)}/: throw-away CA, release key, 6 host certificates`)
    const agent = bundle("nixfleet-agent")
    if (driverName === "archive") driver = archiveHosts(layout, nixfleet, agent)
    else {
      const nix = await nixHosts(layout, agent)
      screen.tell(`six hosts with a store of their own each; signed binary cache at ${nix.cacheUrl}`)
      driver = nix
    }
    for (const [name, status] of [["r1", 200], ["r2", 500], ["r3", 200]] as const) {
      closures.set(name, await driver.makeClosure(`web-${name}`, status))
      screen.tell(`${driver.made} ${name}: its web service answers ${status}; closure ${closures.get(name)!}`)
    }
    for (const [host] of hosts) {
      services.set(
        host,
        await startService(() => driver.runningSystem(host), join(root, "outage"))
      )
    }
  })

  await phase("Story 1: release r1 reaches canary (1 host), wave 2 (2 hosts), wave 3 (3 hosts)", async () => {
    publish(layout, await release("0f3c9a01", closures.get("r1")!))
    screen.tell("r1 is signed and published as stable@0f3c9a01")
    processes.start(
      "control-plane",
      nodeCommand(bundle("nixfleet-control-plane"), controlPlaneArguments(layout, port)),
      join(root, "log", "control-plane.log")
    )
    client = new ControlPlaneClient(port, { ca: layout.ca, ...layout.operator })
    watcher = new Watcher(client, screen, closures, failed)
    await watcher.until("the control plane is ready", 20, () => client.ready())
    for (const [host] of hosts) startAgent(layout, driver, host, port)
    screen.tell(`control plane and 6 agents run; the control plane listens on 127.0.0.1:${port}`)
    watcher.follow("stable@0f3c9a01")
    await watcher.until(
      "all six hosts converge on r1",
      60,
      () => watcher.all((host) => host.converged && host.lastRolloutId === "stable@0f3c9a01")
    )
    screen.tell("r1 has converged on all six hosts")
  })

  if (stay) {
    await runOn(layout, closures, writeConnection(layout, port), [["0f3c9a03", "r3"], ["0f3c9a04", "r1"], [
      "0f3c9a05",
      "r2"
    ]])
    return
  }

  await phase("Story 2: release r2 is bad; the canary goes back, nobody else is touched", async () => {
    publish(layout, await release("0f3c9a02", closures.get("r2")!))
    screen.tell("r2 is signed and published as stable@0f3c9a02; its web service answers 500")
    watcher.follow("stable@0f3c9a02")
    await watcher.until(
      `${canary} is back on r1`,
      60,
      () =>
        watcher.one(
          canary,
          (host) => host.rolloutState === "Reverted" && host.currentClosureHash === closures.get("r1")
        )
    )
    await watcher.until("the rollout halts", 10, async () => (await client.lifecycle("stable@0f3c9a02")) === "Reverted")
    await watcher.until(
      "r2 is quarantined",
      10,
      () => watcher.one(canary, (host) => host.quarantinedClosure === closures.get("r2"))
    )
    await untouched("stable@0f3c9a02")
    screen.tell(`the rollout has halted, r2 is quarantined; ${others.join(", ")} were never touched`)
  })

  const { makeForeignClosure } = driver
  if (makeForeignClosure !== undefined) {
    await phase("In between: a closure in the cache that a stranger has signed", async () => {
      const foreign = await makeForeignClosure("web-foreign")
      publish(layout, await release("0f3c9a2f", foreign))
      screen.tell("the release of stable@0f3c9a2f is ours; its closure was pushed with a key that no host trusts")
      watcher.follow("stable@0f3c9a2f")
      await watcher.until(
        `${canary} refuses it`,
        60,
        () =>
          watcher.one(
            canary,
            (host) => host.rolloutState === "Reverted" && host.lastRolloutId === "stable@0f3c9a2f"
          )
      )
      screen.tell(`${canary} refuses it: ${await watcher.failure("stable@0f3c9a2f", canary)}`)
      await watcher.until(
        "the rollout halts",
        10,
        async () => (await client.lifecycle("stable@0f3c9a2f")) === "Reverted"
      )
      await untouched("stable@0f3c9a2f")
    })
  }

  await phase("In between: a manifest that was changed after it was signed", async () => {
    const signed = await release("0f3c9a03", closures.get("r3")!)
    const tampered = tamper(layout, signed, closures.get("r3")!, closures.get("r2")!)
    publish(layout, tampered)
    screen.tell("the manifest of stable@0f3c9a03 is published with r2 written where r3 was signed")
    const reason = await watcher.logged(join(root, "log", "control-plane.log"), "stable@0f3c9a03", 15)
    screen.tell(`control plane refuses it: ${reason}`)
    const victim = hosts[5][0]
    const liar = await startLyingControlPlane({ ca: layout.ca, ...layout.server }, {
      rolloutId: "stable@0f3c9a03",
      host: victim,
      targetClosure: closures.get("r2")!,
      served: new Map([
        ["/v1/fleet.resolved", readFileSync(join(tampered, "fleet.resolved.json"))],
        ["/v1/fleet.resolved/sig", readFileSync(join(tampered, "fleet.resolved.json.sig"))],
        ["/v1/rollouts/stable@0f3c9a03", readFileSync(join(tampered, "rollouts", "stable@0f3c9a03.json"))],
        ["/v1/rollouts/stable@0f3c9a03/sig", readFileSync(join(tampered, "rollouts", "stable@0f3c9a03.json.sig"))]
      ])
    })
    await processes.stop(victim)
    startAgent(layout, driver, victim, liar.port)
    screen.tell(`${victim} now talks to a control plane that lies and serves it all the same`)
    const rejection = await watcher.within("the agent refuses the changed manifest", 20, liar.refused)
    screen.tell(`${victim} refuses it: ${explain(rejection.reason, rejection.detail)}`)
    await processes.stop(victim)
    liar.close()
    startAgent(layout, driver, victim, port)
    publish(layout, signed)
  })

  await phase("Story 3: r3 repairs it and reaches all six", async () => {
    screen.tell("r3 is published as it was signed, stable@0f3c9a03")
    watcher.follow("stable@0f3c9a03")
    await watcher.until(
      "all six hosts converge on r3",
      90,
      () =>
        watcher.all((host) =>
          host.converged && host.lastRolloutId === "stable@0f3c9a03" && host.currentClosureHash === closures.get("r3")
        )
    )
    screen.tell("r3 has converged on all six hosts")
  })

  const connection = [
    "--cp-url",
    `https://127.0.0.1:${port}`,
    "--ca-cert",
    layout.ca,
    "--client-cert",
    layout.operator.cert,
    "--client-key",
    layout.operator.key
  ]
  screen.heading("The fleet as its operator sees it: nixfleet status")
  screen.say((await runOnce(nixfleet, ["status", ...connection])).trimEnd())

  await watcher.stop()
  const counts = await watcher.counts()
  client.close()
  driver.close()
  const ends = await processes.stopAll()
  const unclean = ends.filter((how) => !how.endsWith("exit 0"))
  if (unclean.length > 0) throw new Error(`not every process ended cleanly: ${unclean.join("; ")}`)
  screen.heading("Summary")
  for (const [title, seconds] of phases) screen.say(`${seconds.toFixed(1).padStart(6)} s  ${title}`)
  screen.say(
    `${counts.delivered} events delivered and durable, ${counts.refused} refused; 7 processes ended with exit 0 on SIGTERM`
  )
  screen.heading("What it left behind")
  const show = (path: string) => relative(process.cwd(), join(root, path)) || "."
  screen.say(
    `npx nixfleet verify --artifact ${show("releases/fleet.resolved.json")} --signature ${
      show("releases/fleet.resolved.json.sig")
    } --trust ${show("trust.json")}`
  )
  screen.say(
    `npx nixfleet verify --artifact ${show("tampered/rollouts/stable@0f3c9a03.json")} --signature ${
      show("tampered/rollouts/stable@0f3c9a03.json.sig")
    } --trust ${show("trust.json")}`
  )
  for (const [command, path] of driver.leftBehind(canary)) screen.say(`${command} ${show(path)}`)
  screen.say(`less ${show("log/control-plane.log")}`)
  screen.say(`less ${show(`log/${canary}.log`)}`)
}

let ending = false
async function end(code: number): Promise<never> {
  if (!ending) {
    ending = true
    await processes.stopAll()
  }
  process.exit(code)
}
process.on("exit", () => processes.killAllNow())
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    screen.say(`\n${signal}: ending all processes`)
    void end(130)
  })
}
// Without a race in progress a failure must not be an unhandled rejection.
failure.catch(() => {})

try {
  await demo()
  await end(0)
} catch (error) {
  if (!ending) {
    screen.say(`\ndemo failed: ${error instanceof Error ? error.message : String(error)}`)
    await end(1)
  }
}
