/**
 * A row of the table: one ratio between us and a floor that was measured in the same run, and the goal for it. Rounds of both
 * take turns, so that what else the machine does meets both; the median of the rounds' ratios counts.
 */
export interface Goal {
  readonly at: "least" | "most"
  readonly ratio: number
}

export interface Row {
  readonly what: string
  readonly goal: Goal
  readonly ratio: number
  /** Lowest and highest ratio of a round: how far the machine was from quiet. */
  readonly spread: readonly [number, number]
  /** Medians, in `unit`. */
  readonly ours: number
  readonly floor: number
  readonly unit: string
  /** What else there is to know, in sentences. */
  readonly notes: ReadonlyArray<string>
}

export interface Pair {
  readonly ours: number
  readonly floor: number
}

export function median(values: ReadonlyArray<number>): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Measures both sides `rounds` times, each round beginning with the other side. */
export async function inTurns(
  rounds: number,
  sides: { readonly ours: () => Promise<number> | number; readonly floor: () => Promise<number> | number }
): Promise<ReadonlyArray<Pair>> {
  const pairs: Array<Pair> = []
  for (let round = 0; round < rounds; round++) {
    const oursFirst = round % 2 === 0
    const first = oursFirst ? await sides.ours() : await sides.floor()
    const second = oursFirst ? await sides.floor() : await sides.ours()
    pairs.push(oursFirst ? { ours: first, floor: second } : { ours: second, floor: first })
  }
  return pairs
}

export function rowOf(
  what: string,
  goal: Goal,
  unit: string,
  pairs: ReadonlyArray<Pair>,
  notes: ReadonlyArray<string> = []
): Row {
  const ratios = pairs.map(({ floor, ours }) => ours / floor)
  return {
    what,
    goal,
    unit,
    notes,
    ratio: median(ratios),
    spread: [Math.min(...ratios), Math.max(...ratios)],
    ours: median(pairs.map(({ ours }) => ours)),
    floor: median(pairs.map(({ floor }) => floor))
  }
}

export const isMet = ({ goal, ratio }: Row): boolean => goal.at === "least" ? ratio >= goal.ratio : ratio <= goal.ratio

/** Four significant digits are more than the measurement has. */
export const shown = (value: number): string =>
  value >= 10_000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)))

export function tableOf(rows: ReadonlyArray<Row>): string {
  const cells = [
    ["what", "ratio", "rounds", "goal", "", "ours", "floor", "unit"],
    ...rows.map((row) => [
      row.what,
      shown(row.ratio),
      `${shown(row.spread[0])}…${shown(row.spread[1])}`,
      `${row.goal.at === "least" ? "≥" : "≤"} ${row.goal.ratio}`,
      isMet(row) ? "met" : "MISSED",
      shown(row.ours),
      shown(row.floor),
      row.unit
    ])
  ]
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)))
  return cells.map((line) => line.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n")
}
