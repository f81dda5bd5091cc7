/**
 * `node test/vm/run.ts`, as root on Debian: what only a machine with a power cord can show. See README.md.
 *
 * The control plane and the binary cache run here, as processes of this machine; the host is a virtual one.
 */
import { Effect, Layer } from "effect"
import { mkdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { Builder, nixConf, removeStore } from "../../examples/nix/Builder.ts"
import { trustJson } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { buildExecutable } from "../support/executable.ts"
import { makeFleet } from "../support/fleet.ts"
import { serveCache } from "../support/nixCache.ts"
import { Checks } from "./Checks.ts"
import { machinePackages, makeDebian, makeImage } from "./Image.ts"
import { type Acceleration, Machine } from "./Machine.ts"
import { requireHost } from "./Needs.ts"
import { agentConfigFile, host, Story } from "./Story.ts"
import { Transcript } from "./Transcript.ts"

const checkout = resolve(import.meta.dirname, "../..")
const { values: options } = parseArgs({
  options: {
    directory: { type: "string", default: "/var/tmp/nixfleet-vm" },
    accel: { type: "string" },
    suite: { type: "string", default: "bookworm" },
    mirror: { type: "string", default: "http://deb.debian.org/debian" },
    transcript: { type: "string" }
  }
})

const isAcceleration = (text: string | undefined): text is Acceleration => text === "kvm" || text === "tcg"

/** Of qemu's network: where the machine finds this one. */
const gateway = "10.0.2.2"
const controlPlaneName = "cp"

/** As `docs/deploy.md` installs an agent, with the driver of Nix and cadences for people who wait. */
const installed = Effect.fnUntraced(function*(port: number, cacheUrl: string, builder: Builder) {
  const { authority, caFile } = yield* Certificates
  const client = authority.agent(host)
  const trustedKey = yield* Effect.promise(() => builder.trustedKey)
  const etc = "etc/nixfleet/agent"
  const config = {
    controlPlaneUrl: `https://${controlPlaneName}:${port}`,
    machineId: host,
    trustFile: `/${etc}/trust.json`,
    caCert: `/${etc}/ca.pem`,
    clientCert: `/${etc}/client.pem`,
    clientKey: `/${etc}/client-key.pem`,
    driver: "nix",
    heartbeatSecs: 1,
    pollWaitSecs: 10,
    pollTimeoutSecs: 15,
    drainSecs: 0.5,
    advanceSecs: 0.5,
    manifestPollSecs: 1,
    switchPollSecs: 0.3,
    switchTimeoutSecs: 60,
    guardWindowSecs: 75
  }
  const unit = "nixfleet-agent.service"
  return [
    { path: "usr/local/bin/nixfleet-agent", content: { copyOf: buildExecutable().file } },
    { path: `etc/systemd/system/${unit}`, content: readFileSync(join(checkout, "deploy/systemd", unit), "utf8") },
    { path: agentConfigFile.slice(1), content: JSON.stringify(config) },
    { path: `${etc}/trust.json`, content: JSON.stringify(trustJson()) },
    { path: `${etc}/ca.pem`, content: readFileSync(caFile, "utf8") },
    { path: `${etc}/client.pem`, content: client.cert },
    { path: `${etc}/client-key.pem`, content: client.key, mode: 0o600 },
    { path: "etc/hostname", content: `${host}\n` },
    { path: "etc/hosts", content: `127.0.0.1 localhost ${host}\n${gateway} ${controlPlaneName}\n` },
    { path: "etc/machine-id", content: "" },
    { path: "var/lib/vm/switches", content: "" },
    {
      path: "etc/nix/nix.conf",
      content: nixConf([`substituters = ${cacheUrl}`, `trusted-public-keys = ${trustedKey}`])
    }
  ]
})

/** The control plane's certificate names it as the machine does. */
const certificates = Layer.effect(
  Certificates,
  Effect.map(Certificates, (made) =>
    Certificates.of({
      ...made,
      serverFiles: made.write("cp", made.authority.server([controlPlaneName]))
    }))
).pipe(Layer.provide(Certificates.layer))

const run = Effect.fnUntraced(function*(checks: Checks) {
  const { directory, mirror, suite } = options
  mkdirSync(directory, { recursive: true })
  const debian = join(directory, suite)
  checks.say(`a Debian (${suite}) in ${debian}, made by debootstrap when it is not there`)
  makeDebian(debian, suite, mirror, machinePackages)

  const builder = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const place = join(directory, "builder")
      removeStore(place)
      mkdirSync(place)
      return new Builder(place)
    }),
    (made) => Effect.sync(() => removeStore(made.directory))
  )
  const cache = yield* serveCache(builder.cache)
  const fleet = yield* makeFleet({ hosts: [host] })
  const files = yield* installed(fleet.port, cache.url.replace("127.0.0.1", gateway), builder)
  const units = ["nixfleet-agent.service", "vm-console.service", "vm-network.service"]
  const boot = makeImage(debian, join(directory, "disk.img"), files, units)
  yield* fleet.controlPlane

  const accel = isAcceleration(options.accel) ? options.accel : undefined
  const machine = yield* Effect.acquireRelease(
    Effect.map(temporaryDirectory, (place) => new Machine(boot, place, accel)),
    (made) => Effect.ignore(made.cut)
  )
  yield* machine.on
  checks.say(
    `${suite} runs under qemu, ${machine.acceleration}; ${
      (yield* machine.must("uname -sr; nix --version")).replaceAll("\n", ", ")
    }`
  )
  const story = new Story({ machine, fleet, builder, cache, checks })
  for (const [title, body] of story.chapters) yield* checks.chapter(title, body)
  if (!checks.end()) {
    const log = join(directory, "console.log")
    machine.keepLog(log)
    transcript.print(`          what the machine said: ${log}`)
    process.exitCode = 1
  }
})

requireHost(["bubblewrap", "debootstrap", "e2fsprogs", "nbdkit", "nix-bin", "qemu-system-x86"])
const transcript = new Transcript(options.transcript)
transcript.print(`$ node test/vm/run.ts ${process.argv.slice(2).join(" ")}`)
await Effect.runPromise(run(new Checks(transcript)).pipe(Effect.provide(certificates), Effect.scoped))
