/**
 * The demo's working folder: certificates, keys, closures, releases, and one folder a host. Everything that a fleet's
 * owner would do is done with the `nixfleet` command, as he would do it.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { makeAuthority, type PemFiles, writePem } from "../certificates.ts"
import { removeStore } from "../nix/Builder.ts"
import type { HostDriver } from "./HostDriver.ts"
import { runOnce } from "./Processes.ts"

/** Host names with their waves' tags. */
export const hosts = [
  ["alpha", "canary"],
  ["bravo", "early"],
  ["charlie", "early"],
  ["delta", "rest"],
  ["echo", "rest"],
  ["foxtrot", "rest"]
] as const

/** The shortened cadences, seconds; the usual ones are in parentheses when they are printed. */
export const cadences = {
  heartbeat: 2,
  poll: 5,
  drain: 1,
  advance: 0.5,
  probe: 5,
  sustainedFailure: 4,
  artifacts: 1
} as const

export interface Layout {
  readonly root: string
  readonly releases: string
  readonly trust: string
  readonly key: string
  readonly ca: string
  readonly server: PemFiles
  readonly operator: PemFiles
  readonly identity: ReadonlyMap<string, PemFiles>
}

/** Makes the folder anew: keys, trust file and certificates. */
export async function makeLayout(root: string, nixfleet: string): Promise<Layout> {
  removeStore(root)
  for (const folder of ["releases", "pki", "hosts", "log"]) {
    mkdirSync(join(root, folder), { recursive: true, mode: 0o700 })
  }
  const authority = makeAuthority({ commonName: "nixfleet demo CA", now: Date.now(), agentSuffix: "demo.fleet" })
  const ca = join(root, "pki", "ca.pem")
  writeFileSync(ca, authority.cert)
  const key = join(root, "release.key")
  await runOnce(nixfleet, ["keys", "new", key])
  const trust = join(root, "trust.json")
  writeFileSync(trust, await runOnce(nixfleet, ["keys", "show", "--trust", key]))
  const identity = new Map<string, PemFiles>()
  for (const [host] of hosts) identity.set(host, writePem(join(root, "pki"), host, authority.agent(host)))
  return {
    root,
    releases: join(root, "releases"),
    trust,
    key,
    ca,
    server: writePem(join(root, "pki"), "control-plane", authority.server()),
    operator: writePem(join(root, "pki"), "operator", authority.operator("operator-demo")),
    identity
  }
}

export interface Release {
  readonly ref: string
  readonly closure: string
  readonly soakSeconds: number
}

/** Declares and builds one release into a folder of its own. */
export async function build(
  layout: Layout,
  nixfleet: string,
  { closure, ref, soakSeconds }: Release
): Promise<string> {
  const declaration = join(layout.root, `fleet-${ref}.json`)
  writeFileSync(
    declaration,
    JSON.stringify(
      {
        ref,
        closures: { web: closure },
        channels: { stable: { rolloutPolicy: "careful", freshnessWindow: 120, signingIntervalMinutes: 60 } },
        rolloutPolicies: {
          careful: {
            strategy: "canary",
            onHealthFailure: "rollback-and-halt",
            waves: ["canary", "early", "rest"].map((tag) => ({ selector: { tags: [tag] }, soakSeconds }))
          }
        },
        hosts: Object.fromEntries(hosts.map(([host, tag]) => [
          host,
          { channel: "stable", platform: "x86_64-linux", tags: [tag], closure: "web" }
        ]))
      },
      undefined,
      2
    )
  )
  const built = join(layout.root, `built-${ref}`)
  await runOnce(nixfleet, ["release", "build", "--declaration", declaration, "--out", built])
  return built
}

/** The same, signed, and not yet published. */
export async function sign(layout: Layout, nixfleet: string, release: Release): Promise<string> {
  const built = await build(layout, nixfleet, release)
  const signed = join(layout.root, `signed-${release.ref}`)
  await runOnce(nixfleet, ["release", "sign", "--dir", built, "--key", layout.key, "--out", signed])
  return signed
}

/** How an operator reaches the control plane, for `NIXFLEET_CONFIG`. */
export function writeConnection(layout: Layout, controlPlanePort: number): string {
  const file = join(layout.root, "nixfleet.json")
  const connection = {
    cpUrl: `https://127.0.0.1:${controlPlanePort}`,
    caCert: layout.ca,
    clientCert: layout.operator.cert,
    clientKey: layout.operator.key
  }
  writeFileSync(file, `${JSON.stringify(connection, undefined, 2)}\n`)
  return file
}

/** Puts a signed release where the control plane looks: the manifests first, so that the fleet never names a missing one. */
export function publish(layout: Layout, signed: string): void {
  for (const part of ["rollouts", "fleet.resolved.json", "fleet.resolved.json.sig"]) {
    cpSync(join(signed, part), join(layout.releases, part), { recursive: true })
  }
}

/** A copy of a signed release whose manifest sends every host to another closure: changed after it was signed. */
export function tamper(layout: Layout, signed: string, closure: string, other: string): string {
  const tampered = join(layout.root, "tampered")
  cpSync(signed, tampered, { recursive: true })
  for (const name of readdirSync(join(tampered, "rollouts")).filter((file) => file.endsWith(".json"))) {
    const file = join(tampered, "rollouts", name)
    writeFileSync(file, readFileSync(file, "utf8").replaceAll(closure, other))
  }
  return tampered
}

/** `--name value` for each entry. */
function flags(values: Readonly<Record<string, string>>): ReadonlyArray<string> {
  return Object.entries(values).flatMap(([name, value]) => [`--${name}`, value])
}

/** Writes a host's health declaration and gives the arguments of its agent. */
export function agentArguments(
  layout: Layout,
  driver: HostDriver,
  host: string,
  servicePort: number,
  controlPlanePort: number
): ReadonlyArray<string> {
  const folder = join(layout.root, "hosts", host)
  mkdirSync(folder, { recursive: true })
  const checks = join(folder, "health-checks.json")
  writeFileSync(
    checks,
    JSON.stringify({
      web: {
        kind: "http",
        mode: "enforce",
        intervalSeconds: cadences.probe,
        url: `http://127.0.0.1:${servicePort}/`,
        timeoutSecs: 2
      }
    })
  )
  const identity = layout.identity.get(host)!
  return [
    "run",
    ...flags({
      "control-plane-url": `https://127.0.0.1:${controlPlanePort}`,
      "machine-id": host,
      "trust-file": layout.trust,
      "ca-cert": layout.ca,
      "client-cert": identity.cert,
      "client-key": identity.key,
      "state-dir": join(folder, "state"),
      ...driver.agentFlags(host),
      "health-checks-file": checks,
      "heartbeat-secs": String(cadences.heartbeat),
      "poll-wait-secs": String(cadences.poll),
      "poll-timeout-secs": String(cadences.poll + 5),
      "drain-secs": String(cadences.drain),
      "advance-secs": String(cadences.advance),
      "manifest-poll-secs": String(cadences.artifacts),
      "sustained-failure-secs": String(cadences.sustainedFailure),
      "switch-poll-secs": "0.2"
    })
  ]
}

/** Arguments of the control plane, on a free port chosen by the caller. */
export function controlPlaneArguments(layout: Layout, port: number): ReadonlyArray<string> {
  return [
    "serve",
    ...flags({
      "listen": `127.0.0.1:${port}`,
      "tls-cert": layout.server.cert,
      "tls-key": layout.server.key,
      "client-ca": layout.ca,
      "agent-cn-suffix": "demo.fleet",
      "trust-file": layout.trust,
      "releases-source": layout.releases,
      "state-dir": join(layout.root, "control-plane"),
      "artifact-poll-secs": String(cadences.artifacts),
      "heartbeat-secs": String(cadences.heartbeat),
      "recovery-grace-secs": String(2 * cadences.heartbeat + 1)
    })
  ]
}
