/** Spans of time as a person writes them. Pure. */

const units = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

const isUnit = (text: string | undefined): text is keyof typeof units =>
  text !== undefined && Object.hasOwn(units, text)

/** `90`, `90s`, `30m`, `2h`, `7d` in ms. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9})([smhd]?)$/.exec(text)
  if (match === null) return undefined
  return Number(match[1]) * units[isUnit(match[2]) ? match[2] : "s"]
}
