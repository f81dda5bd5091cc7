/**
 * The detached side of a switch: a POSIX shell program, so that it depends on nothing of the agent, whose own files the
 * switch may replace. Needs `flock` (util-linux or busybox) and `timeout`, `readlink`, `sync` (coreutils or busybox).
 *
 * It holds the host's switch lock from before it looks at its record until it ends, on descriptor 9, which the switch
 * does not inherit: the kernel frees the lock however the supervisor ends, and a daemon that the switch starts does not
 * keep it. `timeout` makes the switch a process group of its own and ends it: TERM, after the grace KILL.
 *
 * It tells its starter one line: `started`, `busy` or `failed …`. It never needs the starter again.
 *
 * Files: `<record>.claim` holds its pid, durable before the switch runs and never removed while the record lives: a
 * record runs at most once. `<record>.result` holds one line, durable before the lock is free: `exited N`, `killed N`
 * or `timeout`; there is none when `timeout` could not begin. `<record>.out` and `<record>.err` are what the switch wrote.
 *
 * Who moves `current-system`: the switch itself may, as on NixOS (`NIXFLEET_CURRENT_SYSTEM` names the link,
 * `NIXFLEET_CLOSURE` the closure). Where the driver says so, the supervisor moves it after exit 0 or 4 (switched, some
 * units failed), when it is still what it was before; a link that the switch pointed elsewhere stays, and the
 * verification finds it (D11).
 *
 * Actions: `switch` runs the closure's `switch-to-configuration switch`; `boot` only prepares the next boot, and when that
 * worked its result is `exited 100`, what a switch answers that needs a reboot; `activate` is nix-darwin's switch: the
 * closure's `activate-user`, whose failure is ignored, then its `activate` (agent.md §8.3).
 */

/** Seconds for which the supervisor tries to write its result; then the switch is lost. */
const resultAttempts = 300

/** Made for its owner only: whoever may read a lock may hold it, and so keep every switch from beginning. */
export const makeLock = `( umask 077; true >>"$lock" ) 2>/dev/null`

/**
 * Arguments of the program, in order: lock file, record path, limit and grace in seconds, closure path, link path; who
 * moves the link, `switch` or `supervisor`; the action; a lock of somebody else that must be free, or nothing.
 */
export const supervisorProgram = `
lock=$1 record=$2 limit=$3 grace=$4 closure=$5 link=$6 mover=$7 action=$8 foreign=$9
unset NIXFLEET_SUPERVISOR NIXFLEET_AFTER

say() { (trap '' PIPE; printf '%s\\n' "$1") 2>/dev/null || :; }
flush() { sync "$1" 2>/dev/null || sync; }
store() {
  printf '%s\\n' "$2" >"$record.new" && flush "$record.new" && mv -f "$record.new" "$1" && flush "\${1%/*}"
}
uptime_seconds() { if read -r up _ 2>/dev/null </proc/uptime; then printf '%s' "\${up%.*}"; else date +%s; fi; }

for tool in flock timeout readlink sync; do
  command -v "$tool" >/dev/null || { say "failed this host has no $tool"; exit 1; }
done
${makeLock} || { say "failed cannot write $lock"; exit 1; }
exec 9>>"$lock"
flock -n 9 || { say busy; exit 0; }
if [ -e "$record.claim" ]; then say started; exit 0; fi
if [ -n "$foreign" ] && [ -e "$foreign" ]; then flock -n -s "$foreign" true || { say busy; exit 0; }; fi
for file in "$record.err" "$record.out"; do
  true 2>/dev/null >>"$file" || { say "failed cannot write $file"; exit 1; }
done
store "$record.claim" "$$" || { say "failed cannot write $record.claim"; exit 1; }
exec 2>>"$record.err"
say started
exec >/dev/null

before=$(readlink "$link")
begun=$(uptime_seconds)
signalled= child=
trap 'signalled=1; [ -z "$child" ] || kill -TERM "$child"' TERM
case $action in
  activate) set -- /bin/sh -c '[ ! -x "$1/activate-user" ] || "$1/activate-user"; exec "$1/activate"' sh "$closure" ;;
  *) set -- "$closure/bin/switch-to-configuration" "$action" ;;
esac
timeout -k "$grace" "$limit" "$@" >>"$record.out" 9>&- &
child=$!
[ -z "$signalled" ] || kill -TERM "$child"
# A signal ends "wait" early: wait again; 127 then says that the first one had seen the end.
code=127
while :; do
  signalled=
  wait "$child"
  now=$?
  [ "$now" -eq 127 ] && [ "$code" -ne 127 ] || code=$now
  [ -n "$signalled" ] || break
done

# "timeout" itself failed, as on a host that cannot fork: nothing was switched, and without a result the switch is lost.
[ "$code" -ne 125 ] || exit 1
outcome="exited $code"
if [ "$code" -gt 128 ]; then outcome="killed $((code - 128))"; fi
if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
  if [ $(($(uptime_seconds) - begun)) -ge "\${limit%.*}" ]; then outcome=timeout; fi
fi
case $outcome in
  exited*) ;;
  # Those of the group that outlived their leader.
  *) kill -s KILL -- "-$child" 2>/dev/null ;;
esac

if [ "$action" = boot ] && [ "$code" -eq 0 ]; then outcome="exited 100"; fi
if [ "$mover" = supervisor ] && { [ "$code" -eq 0 ] || [ "$code" -eq 4 ]; }; then
  now=$(readlink "$link")
  if [ "$now" != "$closure" ] && [ "$now" = "$before" ]; then
    ln -s "$closure" "\${link%/*}/.tmp-$$" && mv -fT "\${link%/*}/.tmp-$$" "$link"
  fi
  flush "\${link%/*}"
fi
# A full disk may have room in a moment; until then this switch counts as running.
tries=0
until store "$record.result" "$outcome"; do
  tries=$((tries + 1))
  [ "$tries" -lt ${resultAttempts} ] && [ -d "\${record%/*}" ] || exit 1
  sleep 1
done
`
