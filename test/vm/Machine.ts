/**
 * A virtual machine that can lose its power: qemu, with KVM where that works and else by emulation, over a disk with a volatile
 * cache.
 *
 * The disk is `nbdkit --filter=cache cache=writeback`: what the guest writes is kept apart until the guest flushes, as a disk
 * keeps it in its own memory. A power cut is SIGKILL to both processes: it takes what the guest had in memory and had not written
 * yet, and all that it had written and not flushed. What was flushed is in the image. A reboot of the guest, and its power-off,
 * keep the disk alive.
 *
 * Commands reach the guest over its second serial line (`guest/usr/local/lib/vm/console`); the first one, with its kernel's and
 * its journal's messages, goes to a file.
 */
import { Effect } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { appendFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { join } from "node:path"
import { eventually } from "../support/fleet.ts"
import type { Boot } from "./Image.ts"

export type Acceleration = "kvm" | "tcg"

export interface Answer {
  readonly code: number
  readonly out: string
}

/** Nothing is heard of a kernel under KVM for so long: then there is no KVM that works. */
const silentMs = 15_000
const bootSeconds = 300
/** What a machine for a few minutes has no use for. */
const masked = [
  "apt-daily-upgrade.timer",
  "apt-daily.timer",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "e2scrub_reap.service",
  "fstrim.timer",
  "getty.target",
  "systemd-logind.service",
  "systemd-pstore.service"
]
const parameters = [
  ["root=/dev/vda", "rw", "console=ttyS0", "net.ifnames=0", "panic=-1"],
  ["systemd.show_status=0", "systemd.log_level=notice", ...masked.map((unit) => `systemd.mask=${unit}`)]
].flat().join(" ")
const commandSeconds = 120

const gone = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

const ended = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (gone(child)) return resume(Effect.void)
    child.once("close", () => resume(Effect.void))
  })

export class Machine {
  readonly #boot: Boot
  readonly #directory: string
  #acceleration: Acceleration | undefined
  #disk: ChildProcess | undefined
  #machine: ChildProcess | undefined
  #console: Socket | undefined
  #heard = ""
  #commands = 0
  /** Ids of the guest's boots, oldest first. */
  readonly boots: Array<string> = []

  /** `directory`: an empty one, its own. `acceleration`: found out by the first boot unless given. */
  constructor(boot: Boot, directory: string, acceleration?: Acceleration) {
    this.#boot = boot
    this.#directory = directory
    this.#acceleration = acceleration
  }

  get acceleration(): Acceleration | undefined {
    return this.#acceleration
  }

  get #logFile(): string {
    return join(this.#directory, "console.log")
  }

  /** What the guest has said on its first serial line since it was made. */
  get log(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, "utf8") : ""
  }

  keepLog(file: string): void {
    writeFileSync(file, this.log)
  }

  /** Switches it on; answers when it takes commands. */
  readonly on: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    yield* this.#startDisk
    const boots = this.boots.length
    if (this.#acceleration === undefined) yield* this.#findAcceleration
    else this.#startMachine(this.#acceleration)
    yield* this.#connect
    yield* this.booted(boots + 1)
  })

  /** Answers when the guest has been booted so many times, in all. */
  booted(times: number): Effect.Effect<void> {
    return eventually(`boot ${times}`, () => this.boots.length >= times || this.log.slice(-2000), bootSeconds)
  }

  /** Runs shell text in the guest, to its end; fails when the guest does not answer. */
  run(text: string): Effect.Effect<Answer> {
    return Effect.gen({ self: this }, function*() {
      const number = this.#commands += 1
      this.#console?.write(`${number} ${Buffer.from(text).toString("base64")}\n`)
      const pattern = new RegExp(`<<${number} ([0-9]+) ([A-Za-z0-9+/=]*)>>`)
      let found: RegExpExecArray | null = null
      yield* eventually(`an answer to ${text}`, () => (found = pattern.exec(this.#heard)) !== null, commandSeconds)
      const [, code, out] = found ?? []
      return { code: Number(code), out: Buffer.from(out ?? "", "base64").toString() }
    })
  }

  /** The same for a command that must succeed: what it wrote. */
  must(text: string): Effect.Effect<string> {
    return Effect.flatMap(
      this.run(text),
      ({ code, out }) =>
        code === 0 ? Effect.succeed(out.trim()) : Effect.die(new Error(`${text}\nended with ${code}: ${out}`))
    )
  }

  /** Cuts the power. */
  readonly cut: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    for (const child of [this.#machine, this.#disk]) child?.kill("SIGKILL")
    yield* this.#ended
  })

  /** Waits until the guest has switched itself off. */
  readonly off: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    if (this.#machine !== undefined) yield* ended(this.#machine)
    this.#disk?.kill("SIGTERM")
    yield* this.#ended
  })

  get #ended(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (const child of [this.#machine, this.#disk]) if (child !== undefined) yield* ended(child)
      this.#console?.destroy()
      appendFileSync(this.#logFile, "\n--- off ---\n")
    })
  }

  get #startDisk(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const socket = join(this.#directory, "disk.sock")
      rmSync(socket, { force: true })
      const filter = ["--filter=cache", "file", this.#boot.disk, "cache=writeback"]
      this.#disk = spawn("nbdkit", ["--foreground", "--exit-with-parent", `--unix=${socket}`, ...filter], {
        stdio: ["ignore", "ignore", "inherit"]
      })
      yield* eventually("the disk", () => existsSync(socket), 10)
    })
  }

  #startMachine(acceleration: Acceleration): void {
    const at = (name: string) => join(this.#directory, name)
    rmSync(at("console.sock"), { force: true })
    const devices = [
      ["-drive", `file=nbd+unix:///?socket=${at("disk.sock")},format=raw,if=virtio,cache=writeback`],
      ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"],
      ["-device", "virtio-rng-pci"],
      ["-chardev", `file,id=log,path=${this.#logFile},append=on`, "-serial", "chardev:log"],
      ["-chardev", `socket,id=console,path=${at("console.sock")},server=on,wait=off`, "-serial", "chardev:console"]
    ].flat()
    const kernel = ["-kernel", this.#boot.kernel, "-initrd", this.#boot.initrd]
    const computer = ["-nodefaults", "-no-user-config", "-display", "none", "-smp", "1", "-m", "768"]
    const cpu = acceleration === "kvm" ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", "tcg", "-cpu", "max"]
    this.#machine = spawn(
      "setpriv",
      [
        "--pdeathsig=KILL",
        "nice",
        "-n",
        "10",
        "qemu-system-x86_64",
        ...cpu,
        ...computer,
        ...devices,
        ...kernel,
        "-append",
        parameters
      ],
      { stdio: ["ignore", "ignore", "inherit"] }
    )
  }

  /** KVM may be there and not work, as in a machine that is a virtual one itself. */
  get #findAcceleration(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (existsSync("/dev/kvm")) {
        this.#startMachine("kvm")
        for (let waitedMs = 0; waitedMs < silentMs; waitedMs += 100) {
          if (existsSync(this.#logFile) && statSync(this.#logFile).size > 0) {
            this.#acceleration = "kvm"
            return
          }
          yield* Effect.sleep(100)
        }
        this.#machine?.kill("SIGKILL")
        if (this.#machine !== undefined) yield* ended(this.#machine)
      }
      this.#acceleration = "tcg"
      this.#startMachine("tcg")
    })
  }

  get #connect(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const path = join(this.#directory, "console.sock")
      yield* eventually("the console", () => existsSync(path), 10)
      const socket = connect(path)
      this.#console = socket
      this.#heard = ""
      socket.setEncoding("latin1")
      // A socket that breaks is a machine that was switched off.
      socket.on("error", () => {})
      socket.on("data", (text) => {
        this.#heard += String(text)
        for (const [, id] of this.#heard.matchAll(/<<boot ([0-9a-f-]+)>>/g)) {
          if (id !== undefined && !this.boots.includes(id)) this.boots.push(id)
        }
      })
    })
  }
}
