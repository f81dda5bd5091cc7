/**
 * The guard's own side (`Guard.ts`): a POSIX shell program, so that it depends on nothing that a switch may replace. The
 * directory of its order is the value of its mark, in its environment.
 *
 * It counts the seconds that pass since the last sign of life. When none is left it fires: one rename, after which no disarm
 * comes in time. Then it runs `recover` again and again until that has done its work: while another switch holds the host,
 * while a disk is full. Started again, as a unit is that was killed, it goes on where it was.
 *
 * Ends silently when its order is gone. `said` is what the latest try of `recover` said. Neither that nor its number keeps it
 * from its work on a disk that takes no further file.
 */

/** Tries of the recovery, a second apart. */
const recoveryTries = 3600

export const guardProgram = `
cd "$NIXFLEET_GUARD" || exit 0
( printf '%s\\n' "$$" >pid.new && mv -f pid.new pid ) 2>/dev/null

seen= left=0
while [ -e order ]; do
  if read -r turn seconds _ <lease && [ "$turn" != "$seen" ]; then seen=$turn left=$seconds; fi
  if [ "$left" -le 0 ]; then
    mv order fired 2>/dev/null && break
    left=1
  fi
  pause=$((left < 5 ? left : 5))
  sleep "$pause"
  left=$((left - pause))
done
[ -e fired ] || exit 0
sync . 2>/dev/null || sync

said=said tries=0
until ( : >>"$said" ) 2>/dev/null || said=/dev/null; /bin/sh ./recover >"$said" 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt ${recoveryTries} ] || exit 0
  sleep 1
done
`
