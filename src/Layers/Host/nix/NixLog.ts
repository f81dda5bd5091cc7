/**
 * Reads what a Nix command says with `--log-format internal-json`, line by line: its messages, without colours, and how
 * much of the download is done. Pure but for what it remembers, which is bounded.
 *
 * A line that is not of this format is a message too: Nix writes plain text before its logger is set up, and so does a
 * shell or a loader that fails earlier.
 */

/** `level`: 0 error, 1 warning, 2 notice, 3 information; higher ones are not kept. */
export interface NixMessage {
  readonly level: number
  readonly text: string
}

/** Bytes as they are transferred, compressed or not. */
export interface TransferProgress {
  readonly doneBytes: number
  readonly expectedBytes: number
}

/** The announcement of a closure of thousands of paths comes first and what decides comes last: the ends are kept. */
const maxMessages = 400
const maxMessageLength = 4096

/** Numbers of the format, as Nix defines them. */
const fileTransfer = 101
const progressResult = 105
const expectedResult = 106
const informationLevel = 3

const prefix = "@nix "
/** Nine lines of ten, as Nix writes them: how far one activity is, and that one has ended. Others, and these in another form, are parsed. */
const progressLine = /^@nix \{"action":"result","fields":\[(\d{1,15}),\d+,\d+,\d+\],"id":(\d{1,15}),"type":105\}$/
const stopLine = /^@nix \{"action":"stop","id":\d+\}$/
const escapes = /\u001b\[[0-9;]*[A-Za-z]/g

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

function parsed(line: string): Readonly<Record<string, unknown>> | undefined {
  if (!line.startsWith(prefix)) return undefined
  try {
    const value: unknown = JSON.parse(line.slice(prefix.length))
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

const count = (value: unknown): number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : 0

/** What describes a closure is small and fetched in any case; it would make the total jump. */
const isDescription = (url: unknown): boolean =>
  typeof url === "string" && (url.endsWith(".narinfo") || url.endsWith("/nix-cache-info"))

export class NixLog {
  readonly #messages: Array<NixMessage> = []
  /** Bytes done, by the number of a transfer. */
  readonly #transfers = new Map<unknown, number>()
  #expectedBytes = 0

  /** Messages in the order in which they came. */
  get messages(): ReadonlyArray<NixMessage> {
    return this.#messages
  }

  /** `undefined` while nothing is to be transferred. */
  get progress(): TransferProgress | undefined {
    if (this.#expectedBytes === 0) return undefined
    let doneBytes = 0
    for (const done of this.#transfers.values()) doneBytes += done
    return { doneBytes: Math.min(doneBytes, this.#expectedBytes), expectedBytes: this.#expectedBytes }
  }

  push(line: string): void {
    const progressed = progressLine.exec(line)
    if (progressed !== null) return this.#progress(Number(progressed[2]), Number(progressed[1]))
    if (stopLine.test(line)) return
    const entry = parsed(line)
    if (entry === undefined) return this.#say(0, line)
    const fields: ReadonlyArray<unknown> = Array.isArray(entry["fields"]) ? entry["fields"] : []
    switch (entry["action"]) {
      case "msg":
        if (typeof entry["msg"] === "string") this.#say(count(entry["level"]), entry["msg"])
        return
      case "start":
        if (entry["type"] === fileTransfer && !isDescription(fields[0])) this.#transfers.set(entry["id"], 0)
        return
      case "result":
        if (entry["type"] === progressResult) this.#progress(entry["id"], count(fields[0]))
        if (entry["type"] === expectedResult && fields[0] === fileTransfer) {
          this.#expectedBytes = Math.max(this.#expectedBytes, count(fields[1]))
        }
        return
    }
  }

  #progress(id: unknown, done: number): void {
    if (this.#transfers.has(id)) this.#transfers.set(id, done)
  }

  #say(level: number, text: string): void {
    const plain = text.replaceAll(escapes, "").trim()
    if (level > informationLevel || plain === "") return
    if (this.#messages.length >= maxMessages) this.#messages.splice(maxMessages / 2, 1)
    this.#messages.push({ level, text: plain.slice(0, maxMessageLength) })
  }
}
