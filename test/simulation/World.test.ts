import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Queue, Random } from "effect"
import { hostIn } from "../../src/ControlPlane/State.ts"
import type { ExchangeRequest, ExchangeResponse } from "../../src/Layers/Net/Exchange.ts"
import type { LogRow } from "../../src/Schema/ControlPlaneJournal.ts"
import { checkAll, isDrained, openBooks, readMirror } from "../../src/Simulation/Checks.ts"
import { Dice } from "../../src/Simulation/Dice.ts"
import { calm, Network, type Weather } from "../../src/Simulation/Network.ts"
import { Process } from "../../src/Simulation/Process.ts"
import { closureOf, rolloutIdOf } from "../../src/Simulation/Release.ts"
import { revocationsDisobeyed } from "../../src/Simulation/Revocations.ts"
import { Timeline } from "../../src/Simulation/Timeline.ts"
import { World } from "../../src/Simulation/World.ts"

const processOn = (timeline: Timeline, name = "p") =>
  new Process({ name, timeline, epochMs: 1_000_000, seed: "seed", log: () => {} })

describe("the time line", () => {
  it("what is due happens in order of time, and of scheduling within a moment", () => {
    const timeline = new Timeline()
    const dice = new Dice("order")
    const happened: Array<readonly [number, number]> = []
    for (let order = 0; order < 2000; order++) {
      timeline.after(dice.between(0, 50), () => happened.push([timeline.now, order]))
    }
    timeline.runUntil(50)
    assert.strictEqual(happened.length, 2000)
    assert.deepStrictEqual(happened, happened.toSorted(([a, i], [b, j]) => a - b || i - j))
  })

  it("time stands where it was told to stop, and what comes later has not happened", () => {
    const timeline = new Timeline()
    const happened: Array<number> = []
    for (const at of [10, 11]) timeline.after(at, () => happened.push(at))
    timeline.runUntil(10)
    assert.deepStrictEqual([timeline.now, happened], [10, [10]])
  })

  it("two parts that wake each other for ever are an error, not a hang", () => {
    const timeline = new Timeline()
    const again = () => timeline.post(again)
    timeline.post(again)
    assert.throws(() => timeline.runUntil(1), /does not come to rest/)
  })
})

describe("a process", () => {
  it("runs on virtual time alone, on both clocks", () => {
    const timeline = new Timeline()
    const seen: Array<readonly [number, bigint]> = []
    processOn(timeline).fork(
      Effect.gen(function*() {
        const queue = yield* Queue.bounded<number>(1)
        yield* Effect.forkChild(Effect.forever(Effect.andThen(Effect.sleep("1 hour"), Queue.offer(queue, 1))))
        for (let i = 0; i < 3; i++) {
          yield* Queue.take(queue)
          seen.push([yield* Clock.currentTimeMillis, yield* Clock.monotonicTimeNanos])
        }
      }),
      () => {}
    )
    timeline.runUntil(4 * 3_600_000)
    assert.deepStrictEqual(seen, [1, 2, 3].map((h) => [1_000_000 + h * 3_600_000, BigInt(h) * 3_600_000_000_000n]))
  })

  it("that crashes runs nothing more: no fiber, no timer, no finalizer, and nobody is told of an end", () => {
    const timeline = new Timeline()
    const process = processOn(timeline)
    const happened: Array<string> = []
    process.fork(
      Effect.sleep("2 seconds").pipe(
        Effect.andThen(Effect.sync(() => happened.push("went on"))),
        Effect.ensuring(Effect.sync(() => happened.push("finalizer")))
      ),
      () => happened.push("ended")
    )
    timeline.runUntil(1_000)
    process.crash()
    timeline.runUntil(10_000)
    assert.deepStrictEqual(happened, [])
  })

  it("that is interrupted runs its finalizers", () => {
    const timeline = new Timeline()
    const happened: Array<string> = []
    const fiber = processOn(timeline).fork(
      Effect.ensuring(
        Effect.never,
        Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => happened.push("finalizer")))
      ),
      (exit) => happened.push(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "other")
    )
    timeline.runUntil(1_000)
    fiber.interruptUnsafe()
    timeline.runUntil(10_000)
    assert.deepStrictEqual(happened, ["finalizer", "interrupted"])
  })

  it("draws the same numbers from the same seed, one stream for all of its fibers", () => {
    const draw = () => {
      const timeline = new Timeline()
      const drawn: Array<number> = []
      const process = processOn(timeline)
      for (let i = 0; i < 3; i++) process.fork(Effect.map(Random.next, (n) => drawn.push(n)), () => {})
      timeline.drain()
      return drawn
    }
    assert.deepStrictEqual(draw(), draw())
    assert.strictEqual(new Set(draw()).size, 3)
  })
})

describe("the network", () => {
  const request: ExchangeRequest = { method: "POST", path: "/x", headers: {}, body: new Uint8Array(10) }
  const peer = { commonName: "agent-a.fleet.test", unit: undefined, notBefore: 0, notAfter: Infinity }

  /** One exchange in the given weather: how it ended, when, and how often the server acted. */
  const exchange = (weather: Partial<Weather>, options: {
    readonly serverMs?: number
    readonly before?: (parts: { network: Network; server: Process; client: Process; timeline: Timeline }) => void
    readonly answer?: Partial<ExchangeResponse>
    readonly maxRequestBytes?: number
  } = {}) => {
    const timeline = new Timeline()
    const network = new Network(new Dice("network"), () => {})
    network.weather = { ...calm, slowMs: 100, ...weather }
    const [server, client] = [processOn(timeline, "server"), processOn(timeline, "client")]
    const outcome = { ended: "not at all", at: -1, acted: 0, interrupted: 0 }
    network.listen(server, {
      handler: () =>
        Effect.sync(() => outcome.acted += 1).pipe(
          Effect.andThen(Effect.sleep(options.serverMs ?? 0)),
          Effect.as({ status: 204, headers: {}, body: new Uint8Array(), ...options.answer }),
          Effect.onInterrupt(() => Effect.sync(() => outcome.interrupted += 1))
        ),
      maxBodyBytes: () => options.maxRequestBytes ?? 100
    })
    options.before?.({ network, server, client, timeline })
    client.fork(
      network.exchange(client, "a", peer).send(request, { timeoutMs: 5_000, maxBodyBytes: 100, lane: "report" }),
      (exit) => {
        const failure = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        outcome.ended = Exit.isSuccess(exit)
          ? String(exit.value.status)
          : failure instanceof Error && "kind" in failure
          ? String(failure.kind)
          : "defect"
        outcome.at = timeline.now
      }
    )
    timeline.runUntil(60_000)
    return outcome
  }

  it("in calm weather carries one request there and its answer back", () => {
    const { acted, at, ended } = exchange({})
    assert.deepStrictEqual([ended, acted], ["204", 1])
    assert.isTrue(at >= 2 && at <= 40)
  })

  it("a lost request is never acted on and ends by the client's time-out", () => {
    const { acted, at, ended } = exchange({ lost: 1 })
    assert.deepStrictEqual([ended, acted, at], ["timeout", 0, 5_000])
  })

  it("a lost answer was acted on", () => {
    const { acted, ended } = exchange({ answerLost: 1 })
    assert.deepStrictEqual([ended, acted], ["timeout", 1])
  })

  it("a repeated request is acted on twice and answered once", () => {
    const { acted, ended } = exchange({ repeated: 1 })
    assert.deepStrictEqual([ended, acted], ["204", 2])
  })

  it("a host that is cut off reaches nobody", () => {
    const { acted, ended } = exchange({}, { before: ({ network }) => network.cutOff.add("a") })
    assert.deepStrictEqual([ended, acted], ["timeout", 0])
  })

  it("a control plane that is not there refuses; one that crashes cuts what it holds", () => {
    const absent = exchange({}, { before: ({ network, server }) => network.hangUp(server) })
    assert.deepStrictEqual([absent.ended, absent.acted], ["unreachable", 0])
    const crashed = exchange({}, {
      serverMs: 3_000,
      before: ({ network, server, timeline }) =>
        timeline.after(1_000, () => {
          server.crash()
          network.hangUp(server)
        })
    })
    assert.deepStrictEqual([crashed.ended, crashed.acted, crashed.interrupted], ["cut", 1, 0])
    assert.isBelow(crashed.at, 1_100)
  })

  it("a client that gives up or crashes interrupts what it asked for", () => {
    assert.strictEqual(exchange({}, { serverMs: 20_000 }).interrupted, 1)
    const crashed = exchange({}, {
      serverMs: 3_000,
      before: ({ client, network, timeline }) =>
        timeline.after(1_000, () => {
          client.crash()
          network.hangUp(client)
        })
    })
    assert.deepStrictEqual([crashed.ended, crashed.interrupted], ["not at all", 1])
  })

  it("keeps the limits of both ends", () => {
    assert.strictEqual(exchange({}, { answer: { status: 200, body: new Uint8Array(101) } }).ended, "tooLarge")
    assert.deepStrictEqual(exchange({}, { maxRequestBytes: 9 }).acted, 0)
    assert.strictEqual(exchange({}, { maxRequestBytes: 9 }).ended, "413")
  })
})

describe("a host that is revoked, and is not any more", () => {
  const world = new World({ seed: "revoked", waves: [["a"], ["b"]], soakSeconds: 60 })
  const named = (name: string) => world.hosts.find((host) => host.name === name)!
  /** Statuses of the control plane's answers to a host, each with the virtual second. */
  const answersTo = (name: string) =>
    world.trace.lines.flatMap((line) => {
      const [, at, path, status] =
        new RegExp(`^ *([\\d.]+) network +control-plane \\S+ (\\S+) of ${name}: (\\d+)$`).exec(line) ??
          []
      return path === undefined ? [] : [{ at: Number(at), path, status: Number(status) }]
    })
  const mirrorState = (name: string, version: number) =>
    hostIn(readMirror(world), rolloutIdOf(version), name)?.record.state

  it("is refused from the list on, its open poll too, goes on by itself, and loses nothing", () => {
    world.publish(1)
    world.start()
    while (mirrorState("a", 1) !== "Soaking") world.pass(1_000)
    const revokedAt = world.timeline.now / 1000
    world.revoke(named("a"), 180_000)
    world.pass(150_000)

    const refusedAt = answersTo("a").find(({ status }) => status === 401)?.at ?? Infinity
    const poll = answersTo("a").find(({ path, status }) => status === 401 && path.startsWith("/v1/agent/dispatch"))
    assert.isAtMost(refusedAt - revokedAt, 31, "the control plane looks for lists every 30 s")
    assert.strictEqual(poll?.at, refusedAt, "the poll that waited was the first to be refused")
    assert.deepStrictEqual([...new Set(answersTo("a").flatMap(({ at, status }) => at < refusedAt ? [] : [status]))], [
      401
    ])
    assert.isTrue(answersTo("b").every(({ status }) => status < 400))
    assert.strictEqual(named("a").hardware.running, closureOf(1))
    assert.isFalse(isDrained(openBooks(world)), "it has events that nobody takes")
    assert.strictEqual(mirrorState("a", 1), "Soaking")
    assert.lengthOf(named("b").hardware.runs, 0)

    world.pass(300_000)
    assert.deepStrictEqual([mirrorState("a", 1), mirrorState("b", 1)], ["Converged", "Converged"])
    const books = openBooks(world)
    assert.isTrue(isDrained(books))
    assert.deepStrictEqual([...checkAll(books), ...revocationsDisobeyed(books)], [])
  })

  it("a control plane that let it in all the same would be found out", () => {
    const open = new World({ seed: "let in", waves: [["a"], ["b"]], soakSeconds: 5 })
    open.publish(1)
    open.start()
    open.pass(120_000)
    const { log } = openBooks(open)
    const list = (...hosts: ReadonlyArray<string>): LogRow => {
      const signedAt = (log[0]?.now ?? 0) - 60_000
      const revocations = hosts.map((hostname) => ({ hostname, notBefore: signedAt }))
      const payload = { fact: "RevocationsInForce", list: { signedAt, hash: "h", revocations } } as const
      return { now: signedAt, entry: { kind: "identity", payload } }
    }
    const found = revocationsDisobeyed({ log: [list("a"), ...log] })
    assert.isTrue(found.some((text) => text.startsWith("a got its dispatch of stable@")), found.join("\n"))
    assert.isTrue(found.some((text) => text.startsWith("an event of a in stable@")), found.join("\n"))
    assert.isTrue(found.every((text) => !/\bb\b/.test(text)), found.join("\n"))
    assert.deepStrictEqual(revocationsDisobeyed({ log: [list("a", "b"), list(), ...log] }), [])
  })
})

describe("a quiet world", () => {
  it("a restart of every machine loses nothing and switches nothing", () => {
    const world = new World({ seed: "quiet", waves: [["a"], ["b"]], soakSeconds: 5 })
    world.publish(1)
    world.start()
    world.pass(120_000)
    const switched = world.hosts.map(({ hardware }) => hardware.runs.length)
    assert.deepStrictEqual(switched, [1, 1])
    for (const { machine } of [world.controlPlane, ...world.hosts]) machine.restart()
    world.pass(120_000)
    assert.isTrue([world.controlPlane, ...world.hosts].every(({ machine }) => machine.running))
    assert.deepStrictEqual(world.hosts.map(({ hardware }) => hardware.runs.length), [1, 1])
  })
})
