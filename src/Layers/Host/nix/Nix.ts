/**
 * Where Nix is on this host, and how its commands are called. Nix is configured by its own environment variables and its
 * own `nix.conf`; this file reads the same variables with the same defaults, so that the two cannot differ.
 */
import { join, resolve } from "node:path"
import type { CommandSpec } from "./Command.ts"

export interface Nix {
  /** The directory that store paths begin with; part of every hash. */
  readonly storeDir: string
  /** Where the files of the store are: elsewhere when the store is mounted nowhere (`NIX_REMOTE=local?root=…`). */
  readonly realStoreDir: string
  /** Profiles and roots of the garbage collector. */
  readonly stateDir: string
  /** A command of Nix with the environment and the limits of this host. */
  readonly command: (
    program: string,
    args: ReadonlyArray<string>,
    more?: { readonly limitMs?: number; readonly onLine?: (line: string) => void }
  ) => CommandSpec
}

/** A command that asks or changes one thing; those that fetch have a limit of their own. */
const commandLimitMs = 120_000

/** Where programs are: those of a NixOS system, of a Nix beside another system, and of that system. */
const searchPath =
  "/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/** Places of a local store that its address names: `local?root=…`, `local?real=…&state=…`. */
function placesOf(address: string, storeDir: string, stateDir: string) {
  const parameters = new URLSearchParams(/^(?:local)?\?(.*)$/.exec(address)?.[1] ?? "")
  const root = parameters.get("root")
  return {
    realStoreDir: parameters.get("real") ?? (root === null ? storeDir : join(root, "nix/store")),
    stateDir: parameters.get("state") ?? (root === null ? stateDir : join(root, "nix/var/nix"))
  }
}

/** `environment`: of this process, as Nix would see it. */
export function nixOf(environment: Readonly<Record<string, string | undefined>>): Nix {
  const given = Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) => value === undefined ? [] : [[name, value]])
  )
  const storeDir = resolve(given["NIX_STORE_DIR"] ?? "/nix/store")
  const { realStoreDir, stateDir } = placesOf(
    given["NIX_REMOTE"] ?? "",
    storeDir,
    resolve(given["NIX_STATE_DIR"] ?? "/nix/var/nix")
  )
  const path = given["PATH"] === undefined ? searchPath : `${given["PATH"]}:${searchPath}`
  // Messages are recognised by their text, so they must not be translated.
  const commandEnvironment = { HOME: "/root", ...given, PATH: path, LC_ALL: "C.UTF-8" }
  return {
    storeDir,
    realStoreDir,
    stateDir,
    command: (program, args, more) => ({
      program,
      args,
      environment: commandEnvironment,
      limitMs: commandLimitMs,
      ...more
    })
  }
}

/** What is in the environment of a Nix host for its switches. */
export const switchSearchPath = searchPath

/** Letters of a hash in a store path: base 32 without e, o, t, u. */
const closureShape = /^[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211}$/

/** Whether it can be the name of a store path. */
export const isClosureName = (closure: string): boolean => closureShape.test(closure)
