/** Lines on standard output and, when it is named, in a file. */
import { appendFileSync, writeFileSync } from "node:fs"

export class Transcript {
  readonly #file: string | undefined

  constructor(file: string | undefined) {
    this.#file = file
    if (file !== undefined) writeFileSync(file, "")
  }

  print(line: string): void {
    console.log(line)
    if (this.#file !== undefined) appendFileSync(this.#file, `${line}\n`)
  }
}
