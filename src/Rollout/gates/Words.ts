/** How verdicts name things: a person reads them (D17). */

/** Most hosts that a sentence names. */
export const shownHosts = 3

/** "a, b, c and 7 more"; in the order given. */
export function named(names: ReadonlyArray<string>): string {
  const more = names.length - shownHosts
  const shown = names.slice(0, shownHosts)
  if (more > 0) return `${shown.join(", ")} and ${more} more`
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} and ${shown[shown.length - 1]!}`
}

/** What whoever made an edge wrote beside it. */
export const reasoned = (reason: string | undefined): string => reason === undefined ? "" : ` (${reason})`
