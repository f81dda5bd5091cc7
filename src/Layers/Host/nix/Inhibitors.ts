/**
 * What must not change under a running system: a switch that would change it is only prepared for the next boot
 * (agent.md §8.2). Both closures say so themselves where their NixOS is new enough: `switch-inhibitors`, a map from a
 * component's name to a value, of which those named by both must be equal; its own switch would refuse otherwise. Older
 * ones are compared by what D-Bus, systemd and the kernel really are.
 */
import { Result, Schema } from "effect"
import { readFile, realpath } from "node:fs/promises"
import { join } from "node:path"
import { unlessAbsent } from "../DurableFiles.ts"

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown)))

/** `init` is left out on purpose: it differs between any two systems. */
const components = [
  ["dbus", "etc/systemd/system/dbus.service"],
  ["systemd", "sw/lib/systemd/systemd"],
  ["kernel", "kernel"]
] as const

async function declared(system: string): Promise<Readonly<Record<string, unknown>> | undefined> {
  const text = await unlessAbsent(readFile(join(system, "switch-inhibitors"), "utf8"))
  const read = text === undefined ? undefined : decode(text)
  return read === undefined || Result.isFailure(read) ? undefined : read.success
}

/** The first component that a switch between these systems (paths) would change; `undefined` when it may run. */
export async function inhibitor(running: string, target: string): Promise<string | undefined> {
  const [before, after] = await Promise.all([declared(running), declared(target)])
  if (before !== undefined && after !== undefined) {
    return Object.keys(before).toSorted()
      .find((name) => Object.hasOwn(after, name) && JSON.stringify(before[name]) !== JSON.stringify(after[name]))
  }
  for (const [name, path] of components) {
    const [old, next] = await Promise.all([running, target].map((system) => unlessAbsent(realpath(join(system, path)))))
    if (old !== undefined && next !== undefined && old !== next) return name
  }
  return undefined
}
