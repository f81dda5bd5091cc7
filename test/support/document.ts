/**
 * A document whose commands are run word for word: what each shows must be what the document shows, up to what differs from
 * run to run. In it, a command is a line of a ```console block that starts with a prompt, and what follows is what it shows; a
 * line `…` stands for any lines.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { writeFileSync } from "node:fs"

/** Prose as it is, or a command with what it shows; `prompt` names who runs it. */
type Piece =
  | { readonly _tag: "Prose"; readonly text: string }
  | { readonly _tag: "Command"; readonly prompt: string; readonly text: string; readonly shown: ReadonlyArray<string> }

/** How a command ended, and all that it showed. */
export interface Ran {
  readonly code: number | null
  readonly out: string
}

export interface Document {
  readonly markdown: string
  /** Every prompt with the sign at its end, e.g. `admin# `. */
  readonly prompts: ReadonlyArray<string>
  readonly run: (prompt: string, command: string) => Effect.Effect<Ran>
  /** What a reader of a failure has to know. */
  readonly logs: Effect.Effect<string>
  /** In the place of which a word stands, in their order, after times, ages, hashes and keys. */
  readonly varying?: ReadonlyArray<readonly [RegExp, string]>
  /** Where the document goes as this run had it, with the outputs of now. */
  readonly transcript: string | undefined
}

/** A here-document belongs to its command. */
const isWhole = (text: string): boolean => !/<<'?EOF'?$/m.test(text) || /^EOF$/m.test(text)

function piecesOf({ markdown, prompts }: Document): ReadonlyArray<Piece> {
  const promptOf = (line: string | undefined) => prompts.find((prompt) => line?.startsWith(prompt) === true)
  const pieces: Array<Piece> = []
  const lines = markdown.split("\n")
  let console = false
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? ""
    const prompt = console ? promptOf(line) : undefined
    if (prompt === undefined) {
      if (line.startsWith("```")) console = line === "```console"
      pieces.push({ _tag: "Prose", text: line })
      continue
    }
    let text = line.slice(prompt.length)
    while (!isWhole(text)) text += `\n${lines[at += 1]}`
    const shown: Array<string> = []
    while (promptOf(lines[at + 1]) === undefined && lines[at + 1] !== "```") shown.push(lines[at += 1] ?? "")
    pieces.push({ _tag: "Command", prompt, text, shown })
  }
  return pieces
}

const usuallyVarying: ReadonlyArray<readonly [RegExp, string]> = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, "TIME"],
  [/\d+(?:ms|s|m|h) ago/g, "AGE"],
  [/\b[0-9a-f]{32,}\b/g, "HASH"],
  [/\b(?=[0-9a-f]*\d)[0-9a-f]{13}…/g, "HASH"],
  [/[A-Za-z0-9+/]{43,}=*/g, "KEY"],
  [/process \d+/g, "process N"],
  [/answers since .*/g, "answers"]
]

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")

const shows = (shown: ReadonlyArray<string>, found: ReadonlyArray<string>): boolean =>
  new RegExp(`^${shown.map((line) => line === "…" ? "(?:.*\\n)*" : `${escaped(line)}\\n`).join("")}$`)
    .test(found.map((line) => `${line}\n`).join(""))

/**
 * Runs it from its first command to its last. A command that fails ends it, unless the document says so by
 * `|| echo "exit $?"`; what shows something else is gathered, and reported at the end.
 */
export const runDocument = Effect.fnUntraced(function*(document: Document) {
  const varying = [...usuallyVarying, ...document.varying ?? []]
  const comparable = (lines: ReadonlyArray<string>) =>
    lines.map((line) => varying.reduce((text, [pattern, word]) => text.replaceAll(pattern, word), line.trimEnd()))
  const transcript: Array<string> = []
  const differences: Array<string> = []
  for (const piece of piecesOf(document)) {
    if (piece._tag === "Prose") {
      transcript.push(piece.text)
      continue
    }
    const where = `${piece.prompt}${piece.text}`
    const { code, out } = yield* document.run(piece.prompt, piece.text)
    const lines = out === "" ? [] : out.replace(/\n$/, "").split("\n")
    // What it leaves out, it leaves out again.
    transcript.push(where, ...(piece.shown.includes("…") ? piece.shown : lines))
    if (code !== 0) assert.fail(`${where}\nended with ${code}: ${out}\n${yield* document.logs}`)
    const [expected, found] = [comparable(piece.shown), comparable(lines)]
    if (!shows(expected, found)) {
      differences.push(`${where}\n--- the document\n${expected.join("\n")}\n--- this run\n${found.join("\n")}`)
    }
  }
  if (document.transcript !== undefined) writeFileSync(document.transcript, transcript.join("\n"))
  assert.deepStrictEqual(differences, [])
})
