/**
 * The shell program with which a guard takes a host back (`Guard.ts`, D11): what `Activator.setProfile` and
 * `Activator.startSwitch` do, in words that need no agent. It may be run any number of times, and succeeds when the switch
 * back has ended, however it did: its result is in the record of that switch, where the next agent reads it.
 *
 * Under the host's switch lock it first takes the record of the forward switch, so that an agent that was only asleep cannot
 * start it any more, and sets the profile. The switch itself is the supervisor's (`SwitchSupervisor.ts`), under the record of
 * the agent's own rollback: a record runs at most once, so whoever is first, there is one switch back.
 *
 * It fails, and is tried again, while another switch holds the host and while a disk is full; the space that is kept for the
 * way back is given up first. A host that runs none of the expected closures was switched by somebody else, and is left alone.
 */
import { supervisorProgram } from "./SwitchSupervisor.ts"

export interface RecoveryPlan {
  /** Records of the two switches, without their endings. */
  readonly forward: string
  readonly back: string
  readonly lockFile: string
  readonly currentLink: string
  /** Names of the closures of the activation. */
  readonly expected: ReadonlyArray<string>
  /** Makes the closure the profile, durably; fails by its status. In the variables `$closure` is its path. */
  readonly setProfile: string
  /** Files that only keep space. */
  readonly reserves: ReadonlyArray<string>
  readonly closurePath: string
  /** Arguments of the supervisor, and its whole environment. */
  readonly supervisor: ReadonlyArray<string>
  readonly environment: Readonly<Record<string, string>>
}

/** One word of a shell, exactly as it is. */
export const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`

/** How long the lock is waited for in one try, seconds. */
const lockWaitSeconds = 10

export function recoveryProgram(plan: RecoveryPlan): string {
  const { back, closurePath, currentLink, environment, expected, forward, lockFile, reserves, setProfile, supervisor } =
    plan
  const variables = Object.entries(environment).map(([name, value]) => quoted(`${name}=${value}`)).join(" ")
  return `
closure=${quoted(closurePath)}
link=${quoted(currentLink)}
lock=${quoted(lockFile)}
forward=${quoted(forward)}
back=${quoted(back)}
program=${quoted(supervisorProgram)}

flush() { sync "$1" 2>/dev/null || sync; }
store() {
  printf '%s\\n' "$2" >"$1.new" && flush "$1.new" && mv -f "$1.new" "$1" && flush "\${1%/*}"
}
refused() { echo "$1"; rm -f ${reserves.map(quoted).join(" ")}; exit 1; }

now=$(readlink "$link")
case \${now##*/} in
  ${["''", ...expected.map(quoted)].join(" | ")}) ;;
  *) echo "somebody else switched to $now"; exit 0 ;;
esac
if [ ! -e "$back.claim" ]; then
  exec 9>>"$lock" || refused "cannot write $lock"
  flock -w ${lockWaitSeconds} 9 || { echo "another switch runs"; exit 1; }
  if [ ! -e "$forward.claim" ]; then
    store "$forward.claim" "$$" && store "$forward.result" 'killed 9' || refused "cannot write $forward.claim"
  fi
  {
${setProfile}
  } 9>&- || refused "cannot set the profile"
  exec 9>&-
fi
said=$(env -i ${variables} /bin/sh -c "$program" nixfleet-switch ${supervisor.map(quoted).join(" ")})
case $said in
  started) ;;
  busy) echo "another switch runs"; exit 1 ;;
  *) refused "$said" ;;
esac
`
}
