/** Tables for a terminal: columns of plain text, two spaces apart, colour put on last so that it takes no width. Pure. */

import { printable } from "../Schema/Words.ts"

export { printable }

export type Colour = "green" | "yellow" | "red"

export interface Cell {
  readonly text: string
  readonly colour?: Colour
}

const codes = { green: 32, yellow: 33, red: 31 } as const

/** Lines without trailing spaces; width in UTF-16 units. `coloured` is false when nobody looks (control-plane.md §10). */
export function renderTable(
  header: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<Cell>>,
  coloured: boolean
): string {
  const table = [
    header.map((text): Cell => ({ text })),
    ...rows.map((row) => row.map((cell) => ({ ...cell, text: printable(cell.text) })))
  ]
  const widths = header.map((_, column) => Math.max(...table.map((row) => row[column]!.text.length)))
  return table.map((row) =>
    row.map(({ colour, text }, column) => {
      const padding = column === row.length - 1 ? "" : " ".repeat(widths[column]! - text.length)
      return (coloured && colour !== undefined ? `\u001b[${codes[colour]}m${text}\u001b[0m` : text) + padding
    }).join("  ").trimEnd()
  ).join("\n")
}
