/**
 * What the demo shows. On a terminal: a table that is drawn in place below the lines told so far. Elsewhere: the lines alone.
 */
export interface Row {
  readonly host: string
  readonly wave: number
  readonly state: string
  readonly closure: string
  readonly soakLeft: string
  readonly lastEvent: string
}

const columns: ReadonlyArray<readonly [keyof Row, string, number]> = [
  ["host", "HOST", 8],
  ["wave", "WAVE", 4],
  ["state", "STATE", 10],
  ["closure", "CLOSURE", 19],
  ["soakLeft", "SOAK LEFT", 9],
  ["lastEvent", "LAST EVENT", 34]
]

const colours: Readonly<Record<string, string>> = {
  Converged: "\u001b[32m",
  Soaking: "\u001b[33m",
  Activating: "\u001b[33m",
  Failed: "\u001b[31m",
  Reverted: "\u001b[31m"
}

export class Screen {
  readonly #terminal = process.stdout.isTTY
  readonly #colour = process.stdout.isTTY && process.env["NO_COLOR"] === undefined
  readonly #startedAt = performance.now()
  #drawn = 0

  /** One line of the story, stamped with the seconds since the start. */
  tell(line: string): void {
    this.#erase()
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(1).padStart(5)
    process.stdout.write(`${seconds} s  ${line}\n`)
  }

  /** A line without a time: headings, the summary. */
  say(line = ""): void {
    this.#erase()
    process.stdout.write(`${line}\n`)
  }

  heading(line: string): void {
    this.say()
    this.say(this.#colour ? `\u001b[1m${line}\u001b[0m` : line)
  }

  /** Draws the table anew; without a terminal nothing. */
  draw(rows: ReadonlyArray<Row>): void {
    if (!this.#terminal) return
    this.#erase()
    const width = Math.max(20, process.stdout.columns ?? 80)
    const lines = [
      columns.map(([, title, size]) => title.padEnd(size)).join("  "),
      ...rows.map((row) => this.#format(row))
    ]
      .map((line) => line.length > width && !line.includes("\u001b") ? line.slice(0, width) : line)
    process.stdout.write(`\n${lines.join("\n")}\n`)
    this.#drawn = lines.length + 1
  }

  #format(row: Row): string {
    return columns.map(([key, , size]) => {
      const text = String(row[key]).slice(0, size).padEnd(size)
      const colour = key === "state" && this.#colour ? colours[row.state] : undefined
      return colour === undefined ? text : `${colour}${text}\u001b[0m`
    }).join("  ")
  }

  #erase(): void {
    if (this.#drawn > 0) process.stdout.write(`\u001b[${this.#drawn}A\u001b[J`)
    this.#drawn = 0
  }
}
