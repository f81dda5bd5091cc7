/**
 * The guard as a unit of systemd, which starts it again when it is killed, and after a boot: the system that was booted may be the
 * one whose agent does not come up.
 *
 * The unit is a transient one, because the agent's own confinement lets it write no other. Before the guard begins, that unit
 * copies itself to where it is started by the next boot, outside of what a switch replaces; when the guard has ended by itself
 * nothing of it is left there. One that is stopped has not ended: at a shutdown all units are stopped.
 *
 * Where the copy cannot be made (a read-only `/etc`) the guard holds until the next boot, and its unit's log says so.
 */
import { execFile } from "node:child_process"
import { basename, join } from "node:path"
import { promisify } from "node:util"
import { writeAtomically } from "../Disk/AtomicFile.ts"
import { errorText } from "./DurableFiles.ts"
import { environmentOf, type GuardLauncher } from "./GuardLaunch.ts"
import { guardProgram } from "./GuardProgram.ts"
import { quoted } from "./Recovery.ts"

/** Read at each boot, and of no package's and no closure's making. */
const unitDirectory = "/etc/systemd/system.control"
const wantedBy = "multi-user.target"
/** systemd-run answers when the unit runs. */
const startMs = 30_000

const description = "Takes this host back when nixfleet's agent is gone"

/** The next boot's and the transient one's. */
const properties = ["Type=exec", "Restart=on-failure", "RestartSec=1", "OOMScoreAdjust=-900"] as const

/**
 * What the unit runs: the guard to its end, and then nothing of it is left for the next boot; an order that was cleared has no
 * program any more. Without a dollar and without a semicolon, which systemd garbles in a transient unit when a switch makes
 * it reload.
 */
const command = (place: string, name: string): string => {
  const program = quoted(join(place, "program"))
  const copies = `${unitDirectory}/${name} ${unitDirectory}/${wantedBy}.wants/${name}`
  return `( test ! -e ${program} || /bin/sh ${program} ) && rm -f ${copies}`
}

const keepProgram = (place: string, name: string): string => `
mkdir -p ${unitDirectory}/${wantedBy}.wants && cd ${unitDirectory} &&
  install -m 644 ${quoted(join(place, "unit"))} ${name}.new && mv -f ${name}.new ${name} &&
  ln -sf ../${name} ${wantedBy}.wants/${name} && sync -f .
`

/** systemd replaces variables in the words of a command; a dollar that is meant is written twice. */
const literal = (word: string): string => word.replaceAll("$", "$$$$")
/** One word of a unit file, exactly as it is, where no variables are replaced. */
const unitWord = (word: string): string => `"${word.replaceAll(/["\\]/g, "\\$&").replaceAll("%", "%%")}"`

const unitText = (place: string, name: string): string =>
  `[Unit]
Description=${description}
RequiresMountsFor=${unitWord(place)}
StartLimitIntervalSec=0

[Service]
${properties.join("\n")}
Environment=${Object.entries(environmentOf(place)).map(([key, value]) => unitWord(`${key}=${value}`)).join(" ")}
ExecStart=/bin/sh -c ${unitWord(literal(command(place, name)))}
`

export const launchGuardUnit: GuardLauncher = async (place) => {
  const name = `nixfleet-guard-${basename(place)}.service`
  const args = [
    `--unit=${name}`,
    "--collect",
    "--quiet",
    "--no-ask-password",
    `--description=${description}`,
    "--property=StartLimitIntervalSec=0",
    ...properties.map((property) => `--property=${property}`),
    `--property=ExecStartPre=-/bin/sh ${unitWord(literal(join(place, "keep")))}`,
    ...Object.entries(environmentOf(place)).map(([key, value]) => `--setenv=${key}=${value}`),
    "--",
    "/bin/sh",
    "-c",
    literal(command(place, name))
  ]
  try {
    const files = { program: guardProgram, unit: unitText(place, name), keep: keepProgram(place, name) }
    for (const [file, text] of Object.entries(files)) writeAtomically(join(place, file), Buffer.from(text))
    await promisify(execFile)("systemd-run", args, { timeout: startMs })
    return undefined
  } catch (error) {
    return `systemd-run: ${saidBy(error)}`
  }
}

/** What the command said; the text of the error would repeat the whole command. */
const saidBy = (error: unknown): string =>
  error instanceof Error && "stderr" in error && typeof error.stderr === "string" && error.stderr.trim() !== ""
    ? error.stderr.trim()
    : errorText(error).split("\n")[0] ?? ""
