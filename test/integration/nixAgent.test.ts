/**
 * A whole agent, as a process, on a host with a real Nix at `/nix/store` and a `/run/current-system` of its own, at a real
 * control plane, with a signed binary cache over HTTP.
 */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { readlinkSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { Certificates } from "../support/certificates.ts"
import { eventually, eventuallyIs, makeFleet } from "../support/fleet.ts"
import { serveCache } from "../support/nixCache.ts"
import { makeNixHost, type NixHost } from "../support/nixHost.ts"
import { lab, noNix, publishToy } from "../support/nixLab.ts"

vi.setConfig({ testTimeout: 120_000 })

const host = "web-1"
const run = promisify(execFile)

const linkOf = (nixHost: NixHost, link: string): string | undefined => {
  try {
    return readlinkSync(join(nixHost.root, link))
  } catch {
    return undefined
  }
}
const running = (nixHost: NixHost) => linkOf(nixHost, "run/current-system")?.slice("/nix/store/".length)

const rig = Effect.gen(function*() {
  const cache = yield* serveCache(lab().cache)
  const nixHost = yield* makeNixHost({ substituters: [cache.url] })
  const fleet = yield* makeFleet({ hosts: [host] })
  const { caFile } = yield* Certificates
  const program = nixHost.agentProgram([fleet.directory, join(caFile, "..")])
  /** No source of archives: the driver of Nix is the default. */
  const agent = fleet.agent(host, { archiveSource: undefined }, program)
  return { cache, nixHost, fleet, program, agent }
})

describe.skipIf(noNix !== undefined)("an agent on a host with Nix", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("brings the host to what is released, and back when it breaks", () =>
      Effect.gen(function*() {
        const { agent, cache, fleet, nixHost } = yield* rig
        const good = yield* publishToy("good", "good")
        const bad = yield* publishToy("bad", "fails")
        yield* fleet.controlPlane
        yield* agent
        const first = fleet.publish("01", { [host]: good })
        yield* eventuallyIs("the first release", fleet.states(first), (states) => states[host] === "Converged")
        assert.strictEqual(running(nixHost), good)
        assert.strictEqual(linkOf(nixHost, "nix/var/nix/profiles/system-1-link"), `/nix/store/${good}`)
        const second = fleet.publish("02", { [host]: bad })
        yield* eventuallyIs("the way back", fleet.states(second), (states) => states[host] === "Reverted")
        assert.strictEqual(running(nixHost), good)
        assert.strictEqual(linkOf(nixHost, "nix/var/nix/profiles/system"), "system-3-link")
        assert.strictEqual(linkOf(nixHost, "nix/var/nix/profiles/system-3-link"), `/nix/store/${good}`)
        assert.isTrue(cache.requests.some((path) => path.startsWith("/nar/")))
        yield* eventually("a root for the closure of the next rollback, and no other", () => {
          const found = linkOf(nixHost, `nix/var/nix/gcroots/nixfleet/${good}`)
          const gone = linkOf(nixHost, `nix/var/nix/gcroots/nixfleet/${bad}`)
          return (found === `/nix/store/${good}` && gone === undefined) || [found, gone]
        })
      }))

    it.effect("has its driver, its tools and its caches checked", () =>
      Effect.gen(function*() {
        const { agent, fleet, nixHost, program } = yield* rig
        yield* fleet.end(yield* agent, "SIGKILL")
        const config = fleet.at(`${host}.json`)
        const check = () =>
          Effect.promise(() =>
            run(program, ["check", "--config", config], { env: { PATH: "/usr/bin:/bin" } }).then(
              ({ stdout }) => stdout,
              (error: { stdout: string }) => error.stdout
            )
          )
        const right = yield* check()
        assert.match(right, /ok {4}.*nix driver: nix-store \(Nix\) .*, store \/nix\/store/)
        assert.match(right, /ok {4}.*signatures/)
        assert.match(right, /ok {4}.*closures come from http:\/\/127\.0\.0\.1/)
        nixHost.writeConf(["require-sigs = false"])
        assert.match(yield* check(), /wrong {2}.*require-sigs = false/)
      }))
  })
})
