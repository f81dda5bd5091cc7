/**
 * Machines with a real systemd, in containers: the root is an overlay of this machine's, so that every file of it is there
 * and nothing of it can be changed; the network is a loopback of its own, or that of another machine. Boots in half a
 * second. Needs root and the packages `systemd-container` and `dbus`.
 */
import { Effect } from "effect"
import { execFile, spawn, spawnSync } from "node:child_process"
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { basename, dirname, join, resolve } from "node:path"
import type { Ended } from "./command.ts"
import { temporaryDirectory } from "./directories.ts"
import { buildExecutable } from "./executable.ts"

/** In a mount namespace of its own; arguments: name, host name, empty directory, lower directory, options of nspawn. */
const bootProgram = `
set -e
name=$1 base=$3 lower=$4
for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  [ -e $tree/cgroup.procs ] || continue
  mkdir -p $tree/$name
  echo $$ >$tree/$name/cgroup.procs
done
mount -t tmpfs tmpfs $base
mkdir $base/upper $base/work $base/root
root=$base/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$base/upper,workdir=$base/work" $root
rm -f $root/etc/machine-id
: >$root/etc/machine-id
printf '%s\\n' "$2" >$root/etc/hostname
printf '[Unit]\\nRequires=basic.target\\nAfter=basic.target\\nAllowIsolate=yes\\n' >$root/etc/systemd/system/test.target
for unit in networkd resolved timesyncd udevd udev-trigger journal-flush; do
  ln -sf /dev/null $root/etc/systemd/system/systemd-$unit.service
done
shift 4
exec systemd-nspawn --quiet -D $root --register=no --keep-unit --link-journal=no --machine=$name --console=pipe "$@"
`

interface Container {
  /** Unique on this machine. */
  readonly name: string
  readonly hostname: string
  /** Empty; used as a mount point. */
  readonly base: string
  readonly lower: string
  readonly options: ReadonlyArray<string>
}

const unshareArguments = (
  { base, hostname, lower, name, options }: Container
): Array<string> => [
  "-m",
  "--propagation",
  "private",
  "/bin/sh",
  "-c",
  bootProgram,
  "sh",
  name,
  hostname,
  base,
  lower,
  ...options
]

/** The container's groups of processes are not removed with it. */
const removeGroups = (name: string): void => {
  const found = ["-depth", "-type", "d", "-path", `/sys/fs/cgroup/*${name}*`]
  spawnSync("find", ["/sys/fs/cgroup", ...found, "-exec", "rmdir", "{}", "+"])
}

/** Why there can be no machines here; `undefined` when there can. In CI they must be possible. */
export const noMachines: string | undefined = (() => {
  const name = `nixfleet-probe-${process.pid}`
  const base = spawnSync("mktemp", ["-d"], { encoding: "utf8" }).stdout.trim()
  const { stderr, status, stdout } = spawnSync(
    "unshare",
    unshareArguments({
      name,
      hostname: "probe",
      base,
      lower: "/",
      options: ["--private-network", "/bin/sh", "-c", "command -v dbus-daemon"]
    }),
    { encoding: "utf8" }
  )
  removeGroups(name)
  spawnSync("rmdir", [base])
  if (status === 0) return undefined
  const reason = "tests with a real systemd need root, systemd-container and dbus (apt-get install)"
  if (process.env["CI"] !== undefined) throw new Error(`${reason}: ${stdout}${stderr}`)
  console.log(`skipped: ${reason}`)
  return reason
})()

export interface Machine {
  readonly name: string
  /** Its root as seen from outside: its files can be read and written here. */
  readonly root: string
  /** Process id of its init, outside. */
  readonly init: number
  /** Runs shell text on it as root, to its end; a fresh shell with the usual search path. */
  readonly run: (text: string, env?: Readonly<Record<string, string>>) => Effect.Effect<Ended>
  /** The same for a command that must succeed: what it wrote to its standard output. */
  readonly must: (text: string) => Effect.Effect<string>
  /** Writes a file on it, with the directories on the way. */
  readonly write: (file: string, text: string, mode?: number) => void
  /** Copies a file or a directory from here to the same or another place on it. */
  readonly copy: (from: string, to: string) => void
}

export interface MachineOptions {
  readonly name: string
  /** Shares this machine's network; without one it has a loopback of its own. */
  readonly network?: Machine
  /** What its root lies over; this machine's `/` unless given. */
  readonly lower?: string
  readonly options?: ReadonlyArray<string>
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const enter = (init: number, text: string, env: Readonly<Record<string, string>>): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const child = execFile(
      "nsenter",
      ["-t", String(init), "-m", "-u", "-i", "-n", "-p", "-C", "/bin/sh", "-c", text],
      { env: { PATH: searchPath, HOME: "/root", LANG: "C.UTF-8", ...env }, maxBuffer: 50_000_000 },
      (_error, out, errors) => resume(Effect.succeed({ code: child.exitCode, out, errors }))
    )
    child.stdin?.end()
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Nothing of a process that is gone. */
const ofProcess = (file: string): string => {
  try {
    return readFileSync(`/proc/${file}`, "utf8").trim()
  } catch {
    return ""
  }
}

/** The child of nspawn that is the container's init, once it is. */
const initOf = (nspawn: number): number | undefined => {
  const init = ofProcess(`${nspawn}/task/${nspawn}/children`).split(" ").find((pid) =>
    ofProcess(`${pid}/comm`) === "systemd"
  )
  return init === undefined ? undefined : Number(init)
}

/** A machine that has booted; gone with the scope, as by a power cut. */
export const bootMachine = ({ lower = "/", name, network, options = [] }: MachineOptions) =>
  Effect.gen(function*() {
    const base = yield* temporaryDirectory
    const unique = `${name}-${basename(base)}`
    const nspawn = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(
          "unshare",
          unshareArguments({
            name: unique,
            hostname: name,
            base,
            lower,
            options: [
              network === undefined ? "--private-network" : `--network-namespace-path=/proc/${network.init}/ns/net`,
              ...options,
              "--boot",
              "--",
              "systemd.unit=test.target"
            ]
          }),
          { stdio: ["ignore", "pipe", "pipe"] }
        )
        const console: Array<string> = []
        for (const stream of [child.stdout, child.stderr]) {
          stream.on("data", (chunk: Buffer) => console.push(chunk.toString()))
        }
        return { child, console }
      }),
      ({ child }) =>
        Effect.callback<void>((resume) => {
          const gone = () => {
            removeGroups(unique)
            resume(Effect.void)
          }
          if (child.exitCode !== null || child.signalCode !== null) return gone()
          child.once("close", gone)
          const init = child.pid === undefined ? undefined : initOf(child.pid)
          if (init === undefined) child.kill("SIGKILL")
          else process.kill(init, "SIGKILL")
        })
    )
    for (;;) {
      const { child, console } = nspawn
      if (child.exitCode !== null) return yield* Effect.die(new Error(`${name} did not boot: ${console.join("")}`))
      const init = child.pid === undefined ? undefined : initOf(child.pid)
      const state = init === undefined ? undefined : yield* enter(init, "systemctl is-system-running", {})
      if (init !== undefined && (state?.out === "running\n" || state?.out === "degraded\n")) {
        const root = `/proc/${init}/root`
        const place = (file: string) => {
          const at = join(root, file)
          mkdirSync(dirname(at), { recursive: true })
          return at
        }
        const machine: Machine = {
          name,
          root,
          init,
          run: (text, env = {}) => enter(init, text, env),
          must: (text) =>
            Effect.flatMap(enter(init, text, {}), ({ code, errors, out }) =>
              code === 0
                ? Effect.succeed(out)
                : Effect.die(new Error(`${text}\nended with ${code} on ${name}:\n${out}${errors}`))),
          write: (file, text, mode = 0o644) => writeFileSync(place(file), text, { mode }),
          copy: (from, to) => cpSync(from, place(to), { recursive: true, verbatimSymlinks: true })
        }
        return machine
      }
      yield* Effect.sleep(20)
    }
  })

const checkout = resolve(import.meta.dirname, "../..")

/** A machine on which the three programs are installed, as they are in this checkout. */
export const bootInstalledMachine = (given: MachineOptions) =>
  Effect.gen(function*() {
    const bundled = spawnSync(process.execPath, [join(checkout, "scripts/bundle.mjs"), "--if-stale"], {
      encoding: "utf8"
    })
    if (bundled.status !== 0) return yield* Effect.die(new Error(`the programs were not bundled: ${bundled.stderr}`))
    const machine = yield* bootMachine({
      ...given,
      options: [
        `--bind-ro=${process.execPath}:/usr/local/bin/node`,
        `--bind-ro=${join(checkout, "dist")}:/opt/nixfleet/dist`,
        `--bind-ro=${buildExecutable().file}:/usr/local/bin/nixfleet-agent`,
        ...(given.options ?? [])
      ]
    })
    yield* machine.must(
      "for name in nixfleet nixfleet-control-plane; do ln -s /opt/nixfleet/dist/$name.mjs /usr/local/bin/$name; done"
    )
    return machine
  })
