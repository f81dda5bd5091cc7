/**
 * The numbered generations of one host, as Nix keeps them: `system-N-link -> <store>/<closure>` and the profile
 * `system -> system-N-link`; beside them, wherever the configuration says, `current-system -> <store>/<closure>`, which the
 * switch moves. Owns the profile's directory. Each step is one rename, flushed before it is reported; a reader sees the
 * old profile or the new one.
 *
 * Rolling back is `set` of the recorded closure by name, never "the generation before": that one may be anything.
 */
import { Schema } from "effect"
import { readdir, symlink } from "node:fs/promises"
import { basename, dirname, join, resolve } from "node:path"
import { WireClosure } from "../../Schema/Primitives.ts"
import { errorCode, temporaryPrefix } from "../Disk/AtomicFile.ts"
import { readLink, removeDurably, replaceLink, syncPath } from "./DurableFiles.ts"
import { quoted } from "./Recovery.ts"

export interface Generation {
  readonly number: number
  readonly closure: string
}

const generationShape = /^system-([1-9][0-9]{0,14})-link$/
const profile = "system"
const linkName = (number: number): string => `system-${number}-link`

/** Another process may take the same number; each try looks anew. */
const numberingAttempts = 16

const isNameOfTheWire = Schema.is(WireClosure)

/** The closure that a link into the store names; `undefined` when it names anything else, or what no event can carry. */
async function closureBehind(link: string, storeDirectory: string): Promise<string | undefined> {
  const target = await readLink(link)
  if (target === undefined) return undefined
  const path = resolve(dirname(link), target)
  return dirname(path) === resolve(storeDirectory) && isNameOfTheWire(basename(path)) ? basename(path) : undefined
}

/** The closure behind `current-system`. */
export const runningClosure = closureBehind

export class Generations {
  readonly directory: string
  readonly storeDirectory: string

  constructor(directory: string, storeDirectory: string) {
    this.directory = directory
    this.storeDirectory = storeDirectory
  }

  /** All generations, lowest number first. */
  async list(): Promise<ReadonlyArray<Generation>> {
    const found: Array<Generation> = []
    for (const name of await readdir(this.directory)) {
      const number = generationShape.exec(name)?.[1]
      if (number === undefined) continue
      const closure = await closureBehind(join(this.directory, name), this.storeDirectory)
      if (closure !== undefined) found.push({ number: Number(number), closure })
    }
    return found.toSorted((a, b) => a.number - b.number)
  }

  /** What the profile points at. */
  async current(): Promise<Generation | undefined> {
    const name = await readLink(join(this.directory, profile))
    const number = name === undefined ? undefined : generationShape.exec(basename(name))?.[1]
    if (number === undefined) return undefined
    const closure = await closureBehind(join(this.directory, linkName(Number(number))), this.storeDirectory)
    return closure === undefined ? undefined : { number: Number(number), closure }
  }

  /** Makes `closure` the profile and answers its generation; the present or the highest one is used again when it is the same. */
  async set(closure: string): Promise<number> {
    const present = await this.current()
    if (present?.closure === closure) {
      // Also when an earlier call was cut off between its rename and its flush.
      await syncPath(this.directory)
      return present.number
    }
    const number = await this.#number(closure)
    await syncPath(this.directory)
    await replaceLink(join(this.directory, profile), linkName(number))
    const now = await this.current()
    if (now?.closure !== closure) {
      throw new Error(`after it was set to ${closure} the profile names ${now?.closure ?? "nothing"}`)
    }
    return number
  }

  /** `set` as a shell program: of the closure whose path is in `$closure`, while nobody else numbers. */
  get recovery(): string {
    return `
    profiles=${quoted(this.directory)}
    present=$(readlink "$profiles/${profile}") || present=
    if [ "$(readlink "$profiles/\${present:-none}")" != "$closure" ]; then
      number=0
      for name in "$profiles"/system-*-link; do
        found=\${name##*/system-} found=\${found%-link}
        case $found in *[!0-9]* | '') continue ;; esac
        [ "$found" -le "$number" ] || number=$found
      done
      name=system-$((number + 1))-link
      ln -s "$closure" "$profiles/$name" && flush "$profiles" &&
        ln -sfn "$name" "$profiles/${temporaryPrefix}guard" &&
        mv -fT "$profiles/${temporaryPrefix}guard" "$profiles/${profile}"
    fi && flush "$profiles"`
  }

  /** Removes all generations but the profile's and the `keep` highest; answers the closures that are still named. */
  async prune(keep: number): Promise<ReadonlySet<string>> {
    const present = await this.current()
    const all = await this.list()
    const kept = all.filter((one, index) => index >= all.length - keep || one.number === present?.number)
    for (const one of all) {
      if (!kept.includes(one)) await removeDurably(join(this.directory, linkName(one.number)))
    }
    return new Set(kept.map((one) => one.closure))
  }

  /** A generation that names the closure: the highest if it does, else a new one above it. */
  async #number(closure: string): Promise<number> {
    for (let attempt = 0; attempt < numberingAttempts; attempt++) {
      const highest = (await this.list()).at(-1)
      if (highest?.closure === closure) return highest.number
      const number = (await this.#highestNumber()) + 1
      try {
        await symlink(join(this.storeDirectory, closure), join(this.directory, linkName(number)))
        return number
      } catch (error) {
        if (errorCode(error) !== "EEXIST") throw error
      }
    }
    throw new Error(`no free generation number in ${this.directory}`)
  }

  /** Of all names, also those of links that no longer name a closure: a number is never used twice. */
  async #highestNumber(): Promise<number> {
    const numbers = (await readdir(this.directory)).map((name) => Number(generationShape.exec(name)?.[1] ?? 0))
    return Math.max(0, ...numbers)
  }
}
