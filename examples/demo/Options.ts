/** The demo's command line. What cannot be, or cannot be on this machine, ends the program with one sentence. */
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { noHosts } from "../nix/Namespace.ts"

export interface Options {
  readonly driver: "archive" | "nix"
  readonly soakSeconds: number
  /** One story, and then the fleet runs on, for its operator to try things. */
  readonly stay: boolean
  /** The working folder; it is made anew. */
  readonly root: string
}

const usage = "usage: npm run demo -- [--driver archive|nix] [--soak SECONDS] [--stay] [FOLDER, made anew]"

export function readOptions(usualRoot: string): Options {
  const { positionals, values } = parsed()
  const { driver } = values
  const soakSeconds = Number(values.soak)
  const isRight = Number.isInteger(soakSeconds) && soakSeconds >= 1 && positionals.length <= 1
  if ((driver !== "archive" && driver !== "nix") || !isRight) return refuse(64, usage)
  const impossible = driver === "nix" ? noHosts() : undefined
  if (impossible !== undefined) return refuse(1, `the demo with a real Nix cannot run: ${impossible}`)
  return { driver, soakSeconds, stay: values.stay, root: resolve(positionals[0] ?? usualRoot) }
}

function parsed() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        driver: { type: "string", default: "archive" },
        soak: { type: "string", default: "8" },
        stay: { type: "boolean", default: false }
      }
    })
  } catch {
    return refuse(64, usage)
  }
}

function refuse(code: number, why: string): never {
  console.error(why)
  process.exit(code)
}
