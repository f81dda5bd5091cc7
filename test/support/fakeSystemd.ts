/**
 * `systemd-run` and `systemctl` for hosts without systemd: runs the unit's command in a session of its own, expands variables in its
 * words as systemd does, refuses a name that is taken, ends the unit at `RuntimeMaxSec`, and then runs `ExecStopPost`. What
 * only control groups show (the end of the agent's own unit) it cannot show.
 */
import { chmodSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const program = `#!/bin/sh
# $1: a word of a command; prints it with \${NAME} replaced and $$ made one dollar.
word() {
  case $1 in
    '\${'*'}') name=\${1#??}; eval "printf %s \\"\\$\${name%?}\\"" ;;
    *) printf %s "$1" | sed 's/\\$\\$/$/g' ;;
  esac
}
units=\${0%/*} max=3600
while [ $# -gt 0 ]; do
  case $1 in
    --unit=*) unit=\${1#*=} ;;
    --setenv=*) export "\${1#*=}" ;;
    --property=RuntimeMaxSec=*) max=\${1##*=} ;;
    --property=ExecStopPost=*) after=\${1#*=*=} ;;
    --) shift; break ;;
    --collect|--quiet|--no-ask-password|--description=*|--property=Type=exec) ;;
    *) echo "fake systemd-run: unknown $1" >&2; exit 64 ;;
  esac
  shift
done
mkdir "$units/$unit.loaded" 2>/dev/null || {
  echo "Failed to start transient service unit: Unit $unit.service was already loaded or has a fragment file." >&2
  exit 1
}
command=
for one in "$@"; do command="$command '$(word "$one" | sed "s/'/'\\\\\\\\''/g")'"; done
set -- $after
last=$(word "$3")
setsid sh -c '
  echo $$ >"$1/$2.pid"
  eval "timeout -k 1 $3 $4"
  EXIT_STATUS=$?
  SERVICE_RESULT=exit-code
  [ $EXIT_STATUS -ne 124 ] || SERVICE_RESULT=timeout
  export EXIT_STATUS SERVICE_RESULT
  /bin/sh -c "$5"
  rmdir "$1/$2.loaded"
' fake "$units" "$unit" "$max" "$command" "$last" </dev/null >/dev/null 2>&1 &
`

/** Only whether the last unit it is asked about is there. */
const control = `#!/bin/sh
for unit in "$@"; do :; done
[ -d "\${0%/*}/\${unit%.service}.loaded" ] && echo deactivating || echo inactive
`

/** Puts both into a directory, which is then the first one to search. */
export function installFakeSystemd(directory: string): void {
  for (const [name, text] of [["systemd-run", program], ["systemctl", control]] as const) {
    writeFileSync(join(directory, name), text)
    chmodSync(join(directory, name), 0o755)
  }
}
