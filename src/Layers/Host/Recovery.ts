/**
 * The shell program with which a guard takes a host back (`Guard.ts`, D11): what `Activator.setProfile` and
 * `Activator.startSwitch` do, in words that need no agent. It may be run any number of times, and succeeds when the switch
 * back has ended, however it did: its result is in the record of that switch, where the next agent reads it.
 *
 * Under the host's switch lock it first takes the record of the forward switch, so that an agent that was only asleep cannot
 * start it any more, and sets the profile. The switch itself is the supervisor's (`SwitchSupervisor.ts`), under the record of
 * the agent's own rollback: a record runs at most once, so whoever is first, there is one switch back. One that was lost, as by
 * a power cut in the middle of it, is begun once more, under the record that the agent would take next (D7).
 *
 * It fails, and is tried again, while another switch holds the host, when the switch back was lost, and while a disk is full; the
 * space that is kept for the way back is given up first. A host that runs none of the expected closures was switched by somebody
 * else, and is left alone.
 */
import { makeLock, supervisorProgram } from "./SwitchSupervisor.ts"

/** A switch back: its record, without the endings, and what its supervisor is started with. */
export interface SwitchBack {
  readonly record: string
  readonly args: ReadonlyArray<string>
  /** The whole of it. */
  readonly environment: Readonly<Record<string, string>>
}

export interface RecoveryPlan {
  /** Record of the switch forward, without its endings. */
  readonly forward: string
  /** Each is for when the one before it was lost. */
  readonly backs: ReadonlyArray<SwitchBack>
  readonly lockFile: string
  readonly currentLink: string
  /** Names of the closures of the activation. */
  readonly expected: ReadonlyArray<string>
  /** Makes the closure the profile, durably; fails by its status. In the variables `$closure` is its path. */
  readonly setProfile: string
  /** Files that only keep space. */
  readonly reserves: ReadonlyArray<string>
  readonly closurePath: string
}

/** One word of a shell, exactly as it is. */
export const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`

/** How long the lock is waited for in one try, seconds. */
const lockWaitSeconds = 10

const started = ({ args, environment, record }: SwitchBack): string => {
  const variables = Object.entries(environment).map(([name, value]) => quoted(`${name}=${value}`)).join(" ")
  return `  ${quoted(record)})
    said=$(env -i ${variables} /bin/sh -c "$program" nixfleet-switch ${args.map(quoted).join(" ")}) ;;`
}

export function recoveryProgram(plan: RecoveryPlan): string {
  const { backs, closurePath, currentLink, expected, forward, lockFile, reserves, setProfile } = plan
  return `
closure=${quoted(closurePath)}
link=${quoted(currentLink)}
lock=${quoted(lockFile)}
forward=${quoted(forward)}
program=${quoted(supervisorProgram)}

flush() { sync "$1" 2>/dev/null || sync; }
store() {
  printf '%s\\n' "$2" >"$1.new" && flush "$1.new" && mv -f "$1.new" "$1" && flush "\${1%/*}"
}
# What a switch without its supervisor left running; in turns, as it may start more meanwhile.
end_left() {
  for turn in 1 2 3; do
    for one in /proc/[1-9]*; do
      if tr '\\0' '\\n' <"$one/environ" | grep -qxF "NIXFLEET_SWITCH=$1"; then kill -KILL "\${one##*/}"; fi
    done
  done 2>/dev/null
}
refused() { echo "$1"; rm -f ${reserves.map(quoted).join(" ")}; exit 1; }

now=$(readlink "$link")
case \${now##*/} in
  ${["''", ...expected.map(quoted)].join(" | ")}) ;;
  *) echo "somebody else switched to $now"; exit 0 ;;
esac
# A shell whose "exec" cannot open a file ends at once.
${makeLock} || refused "cannot write $lock"
exec 9>>"$lock"
flock -w ${lockWaitSeconds} 9 || { echo "another switch runs"; exit 1; }
# Whoever holds a record holds the lock as well: one that is claimed and has no result was lost.
for back in ${backs.map(({ record }) => quoted(record)).join(" ")}; do
  [ ! -e "$back.result" ] || exit 0
  [ -e "$back.claim" ] || break
  end_left "$back"
  back=
done
[ -n "$back" ] || { echo "no switch back has left a result"; exit 0; }
if [ ! -e "$forward.claim" ]; then
  store "$forward.claim" "$$" && store "$forward.result" 'killed 9' || refused "cannot write $forward.claim"
elif [ ! -e "$forward.result" ]; then
  end_left "$forward"
fi
{
${setProfile}
} 9>&- || refused "cannot set the profile"
exec 9>&-
case $back in
${backs.map(started).join("\n")}
esac
case $said in
  started) [ -e "$back.result" ] || { echo "the switch back left no result"; exit 1; } ;;
  busy) echo "another switch runs"; exit 1 ;;
  *) refused "$said" ;;
esac
`
}
