/**
 * Starts the supervisor of a switch as a transient unit of systemd: its own control group, so that the switch survives the
 * agent that it may restart. A service and not `--scope`, which would die of the agent's closed pipes; `--collect`, because
 * nothing is read from the unit afterwards: how a collected unit ended is forgotten, and a failed one would hold the name
 * (nix.md §5). The name is a mutex of the host: while it is loaded, systemd refuses a second one.
 *
 * The unit runs the same program as without systemd (`SwitchSupervisor.ts`), which writes the result; `ExecStopPost` writes
 * it for a supervisor that was killed, and `RuntimeMaxSec` ends one that hangs. The supervisor's one line goes to
 * `<record>.said`, where this process reads it.
 */
import { execFile } from "node:child_process"
import { readFile, rm } from "node:fs/promises"
import { setTimeout as sleep } from "node:timers/promises"
import { promisify } from "node:util"
import { errorText, unlessAbsent } from "../DurableFiles.ts"
import { handshakeMs, type Launcher, type SwitchLaunch } from "../SwitchLaunch.ts"
import { supervisorProgram } from "../SwitchSupervisor.ts"

/** The unit; one for forward and back, as only one may run. */
const unitName = "nixfleet-switch"
const pollMs = 20

const program = `exec >"$NIXFLEET_SWITCH.said"\n${supervisorProgram}`

/**
 * After the unit has ended, whatever ended it: a result for a switch that was claimed and has none. It begins with the end of a
 * line, for when the switch makes systemd reload: that puts a backslash before the `${` of a transient unit's command,
 * which before a line's end means nothing.
 */
const afterProgram = `
record=$NIXFLEET_SWITCH
rm -f "$record.said"
[ -e "$record.claim" ] && [ ! -e "$record.result" ] || exit 0
outcome="killed 9"
[ "$EXIT_STATUS" != TERM ] || outcome="killed 15"
[ "$SERVICE_RESULT" != timeout ] || outcome=timeout
printf '%s\\n' "$outcome" >"$record.new" && sync "$record.new" && mv -f "$record.new" "$record.result" && sync "\${record%/*}"
`

/** systemd replaces variables in the words of a command; a dollar that is meant is written twice. */
const literal = (word: string): string => word.replaceAll("$", "$$$$")

/** Programs reach the unit as variables: `${NAME}` is one word, exactly as it is. */
function unitArguments(
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>>,
  limitMs: number
): ReadonlyArray<string> {
  const variables = { ...environment, NIXFLEET_SUPERVISOR: program, NIXFLEET_AFTER: afterProgram }
  return [
    `--unit=${unitName}`,
    "--collect",
    "--quiet",
    "--no-ask-password",
    "--description=Switch of this host to another system, by nixfleet",
    "--property=Type=exec",
    `--property=RuntimeMaxSec=${Math.ceil(limitMs / 1000)}`,
    "--property=ExecStopPost=/bin/sh -c ${NIXFLEET_AFTER}",
    ...Object.entries(variables).map(([name, value]) => `--setenv=${name}=${value}`),
    "--",
    "/bin/sh",
    "-c",
    "${NIXFLEET_SUPERVISOR}",
    "nixfleet-switch",
    ...args.map(literal)
  ]
}

/** What the command says when the name is taken. */
const nameTaken = /already loaded|already exists/i

const run = promisify(execFile)

/** Ends when systemd has started the unit; with `busy`, `failed …`, or nothing when it runs. */
async function startUnit(args: ReadonlyArray<string>, environment: Readonly<Record<string, string>>) {
  try {
    await run("systemd-run", args, { env: environment, timeout: handshakeMs })
    return undefined
  } catch (error) {
    return nameTaken.test(errorText(error)) ? "busy" : `failed systemd-run: ${errorText(error)}`
  }
}

async function start({ args, environment, limitMs, record }: SwitchLaunch): Promise<string> {
  const said = `${record}.said`
  await rm(said, { force: true })
  const refused = await startUnit(unitArguments(args, environment, limitMs), environment)
  if (refused !== undefined) return refused
  for (let waitedMs = 0; waitedMs < handshakeMs; waitedMs += pollMs) {
    const line = await unlessAbsent(readFile(said, "utf8"))
    if (line?.endsWith("\n") === true) return line.trim()
    // Quicker than this look: it has claimed its record, or the line would still be there.
    if (line === undefined && await unlessAbsent(readFile(`${record}.claim`)) !== undefined) return "started"
    await sleep(pollMs)
  }
  return `failed no answer of ${unitName}.service within ${handshakeMs} ms`
}

/** From the end of the supervisor until `ExecStopPost` has ended; what cannot be asked is not ending. */
async function ending(environment: Readonly<Record<string, string>>): Promise<boolean> {
  const asked = ["show", "--property=ActiveState", "--value", `${unitName}.service`]
  const { stdout } = await run("systemctl", asked, { env: environment, timeout: handshakeMs }).catch(() => ({
    stdout: ""
  }))
  return ["active", "activating", "deactivating"].includes(stdout.trim())
}

export const launchUnit: Launcher = { start, ending }
