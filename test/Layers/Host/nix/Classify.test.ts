/** The table of nix.md §3, with the words of Nix 2.8.0 and of 2.26.3. `NixFaults.test.ts` makes each row happen. */
import { assert, describe, it } from "@effect/vitest"
import {
  type CacheFinding,
  classify,
  classifyAbsence,
  classifyRefusal
} from "../../../../src/Layers/Host/nix/Classify.ts"
import { NixLog } from "../../../../src/Layers/Host/nix/NixLog.ts"

const closure = "/nix/store/0i84mbc5ny8y0zq62cqhh93dn7i6m7c9-system"
const reference = "/nix/store/59w6f40imvfjw6glag59yisr82da7mpk-base"
const cache = "http://cache:80"
const narinfo = `${cache}/0i84mbc5ny8y0zq62cqhh93dn7i6m7c9.narinfo`
const nar = `${cache}/nar/1gjkpjb0nxmzp5kh3lishbdv6cal5fzxzz1a1sjs5di4q78l4gpc.nar`

/** What a command says, as Nix writes it: level and text, errors with their colours. */
type Said = ReadonlyArray<readonly [level: number, text: string]>

const messagesOf = (said: Said) => {
  const log = new NixLog()
  for (const [level, text] of said) {
    const msg = level === 0
      ? `\u001b[31;1merror:\u001b[0m ${text}`
      : level === 1
      ? `\u001b[35;1mwarning:\u001b[0m ${text}`
      : text
    log.push(`@nix ${JSON.stringify({ action: "msg", level, msg })}`)
  }
  return log.messages
}
const judge = (...said: Said) => classify(messagesOf(said), closure)

const lastWord: Said[number] = [0, `build of \u001b[35;1m'${closure}'\u001b[0m failed`]
const missing = (...paths: ReadonlyArray<string>): Said => [
  [3, "don't know how to build these paths:"],
  ...paths.map((path) => [3, `  ${path}`] as const),
  lastWord
]

describe("one error says what is wrong:", () => {
  const table: ReadonlyArray<readonly [string, string, string]> = [
    // nix 2.8.0
    ["Untrusted", "nix copy, no signature", `cannot add path '${closure}' because it lacks a valid signature`],
    ["Corrupt", "narinfo garbled", "NAR info file 'x.narinfo' is corrupt"],
    [
      "Corrupt",
      "nar with a flipped bit",
      `hash mismatch importing path '${closure}';\n  specified: sha256:1\n  got: sha256:2`
    ],
    ["Corrupt", "nar with a broken frame", "bad archive: unknown file type ce"],
    ["Corrupt", "nar file truncated", "Failed to open archive (Truncated zstd input)"],
    ["Corrupt", "plain nar truncated", `NAR for '${closure}' fetched from '${cache}' is incomplete`],
    ["CacheUnreachable", "narinfo 500", `unable to download '${narinfo}': HTTP error 500`],
    [
      "CacheUnreachable",
      "narinfo reset",
      `unable to download '${narinfo}': Failure when receiving data from the peer (56)`
    ],
    [
      "Transient",
      "nar cut",
      `unable to download '${nar}': HTTP error 200 ('OK') (curl error: Transferred a partial file)`
    ],
    ["Transient", "nar 503", `unable to download '${nar}': HTTP error 503`],
    ["Transient", "nar reset", `unable to download '${nar}': Failure when receiving data from the peer (56)`],
    ["Transient", "nar stalled", `unable to download '${nar}': Timeout was reached (28)`],
    [
      "CacheConfig",
      "certificate",
      `unable to download '${narinfo}': SSL peer certificate or SSH remote key was not OK (60)`
    ],
    ["HostFault disk", "disk full", "writing to file: No space left on device"],
    ["HostFault readOnly", "store read-only", "remounting /nix/store writable: Invalid argument"],
    [
      "HostFault readOnly",
      "database read-only",
      "executing SQLite statement 'delete from X': attempt to write a readonly database"
    ],
    ["HostFault daemon", "no daemon", "cannot connect to socket at '/nix/var/nix/daemon-socket/socket': No such file"],
    ["HostFault database", "store half made", "'/nix/var/nix/db/schema' is corrupt"],
    ["HostFault database", "database broken", "executing SQLite statement 'pragma': file is not a database"],
    ["Cancelled", "ended by a signal", "interrupted by the user"],
    ["Transient", "anything else", "some words that nobody has seen before"],
    // nix 2.26.3, where it differs
    [
      "Untrusted",
      "nix copy, no signature",
      `cannot add path '${closure}' because it lacks a signature by a trusted key`
    ],
    ["Corrupt", "narinfo cut short", "NAR info file 'x.narinfo' is corrupt: bad hash at line 6"]
  ]
  it.each(table)("%s: %s", (expected, _case, text) => {
    const found = judge([0, text], lastWord)
    assert.strictEqual(found._tag === "HostFault" ? `HostFault ${found.fault}` : found._tag, expected)
    assert.include("detail" in found ? found.detail : "", text.split("\n")[0]!)
    assert.deepStrictEqual(judge([0, text])._tag, found._tag)
  })
})

describe("warnings decide only when no error does:", () => {
  const unsigned = [
    `the substitute for '${closure}' from '${cache}' is not signed by any of the keys in 'trusted-public-keys'`,
    `ignoring substitute for '${closure}' from '${cache}', as it's not signed by any of the keys in 'trusted-public-keys'`
  ]
  it.each(unsigned)("untrusted: %s", (text) => {
    assert.strictEqual(judge([1, text], lastWord)._tag, "Untrusted")
    // Another cache that cannot be asked does not hide it.
    assert.strictEqual(
      judge([1, text], [1, `unable to download '${cache}2/nix-cache-info': (7)`], lastWord)._tag,
      "Untrusted"
    )
    // The next cache has it signed, and its download breaks off.
    assert.strictEqual(judge([1, text], [0, `unable to download '${nar}': HTTP error 503`])._tag, "Transient")
  })

  it("a failure without a word is tried again", () => assert.strictEqual(judge()._tag, "Transient"))
})

describe("what Nix does not tell is a question:", () => {
  it("no substitute for the closure, or for what it refers to", () => {
    const one = judge(...missing(closure))
    assert.deepStrictEqual(one._tag === "Unsubstitutable" && one.paths, [closure])
    const other = judge([3, "these 2 paths will be fetched:"], [3, closure], ...missing(reference))
    assert.deepStrictEqual(other._tag === "Unsubstitutable" && other.paths, [reference])
  })

  it("only the last word", () => {
    for (const word of [lastWord, [0, `cannot repair path '${closure}'`]] as const) {
      const found = judge(word)
      assert.deepStrictEqual(found._tag === "Unsubstitutable" && found.paths, [closure])
    }
  })

  it("`nix build` and `nix copy` say it in other words", () => {
    const text = `path '${closure}' is required, but there is no substituter that can build it`
    assert.strictEqual(judge([0, text])._tag, "Unsubstitutable")
  })

  it("a file that a cache describes and does not give", () => {
    const found = judge([0, `file 'nar/x.nar' does not exist in binary cache '${cache}'`], lastWord)
    assert.deepStrictEqual(found._tag === "FileRefused" && found.url, `${cache}/nar/x.nar`)
  })
})

describe("what the caches answer decides:", () => {
  const finding = (answer: CacheFinding["answer"]): CacheFinding => ({ cache, answer, detail: answer })
  const absence = (warnings: string, ...answers: ReadonlyArray<CacheFinding["answer"]>) =>
    classifyAbsence({ _tag: "Unsubstitutable", paths: [closure], warnings }, answers.map(finding))._tag

  const table: ReadonlyArray<readonly [ReadonlyArray<CacheFinding["answer"]>, string]> = [
    [["Absent"], "Absent"],
    [["Absent", "Absent"], "Absent"],
    [["Absent", "Unasked"], "Absent"],
    [["Unreachable"], "CacheUnreachable"],
    [["Absent", "Unreachable"], "CacheUnreachable"],
    [["Auth", "Unreachable"], "CacheUnreachable"],
    [["Auth"], "CacheAuth"],
    [["Absent", "Auth"], "CacheAuth"],
    [["Config"], "CacheConfig"],
    [["Absent", "Config"], "CacheConfig"],
    [["Present"], "Transient"],
    [["Absent", "Present"], "Transient"],
    [[], "CacheConfig"]
  ]
  it.each(table)("%j: %s", (answers, expected) => assert.strictEqual(absence("", ...answers), expected))

  const warned: ReadonlyArray<readonly [string, string]> = [
    ["unable to download 'http://cache/nix-cache-info': Couldn't connect to server (7)", "CacheUnreachable"],
    [
      "unable to download 'http://cache/nix-cache-info': Could not connect to server (7) Failed to connect",
      "CacheUnreachable"
    ],
    ["unable to download 'http://cache/nix-cache-info': Couldn't resolve host name (6)", "CacheUnreachable"],
    ["unable to download 'http://cache/nix-cache-info': Timeout was reached (28)", "CacheUnreachable"],
    ["'http://cache' does not appear to be a binary cache", "CacheConfig"],
    ["binary cache 'http://cache' is for Nix stores with prefix '/gnu/store', not '/nix/store'", "CacheConfig"]
  ]
  it.each(warned)("a cache that has recovered since, or is not asked by us: %s", (text, expected) => {
    assert.strictEqual(absence(text, "Absent"), expected)
    assert.strictEqual(absence(text, "Unasked"), expected)
  })

  const refused: ReadonlyArray<readonly [CacheFinding["answer"], string]> = [
    ["Absent", "CacheConfig"],
    ["Auth", "CacheAuth"],
    ["Unreachable", "CacheUnreachable"],
    ["Present", "Transient"],
    ["Config", "CacheConfig"],
    ["Unasked", "CacheConfig"]
  ]
  it.each(refused)("a missing file that is %s: %s", (answer, expected) => {
    const question = { _tag: "FileRefused", url: nar, detail: "refused" } as const
    assert.strictEqual(classifyRefusal(question, finding(answer))._tag, expected)
  })
})

describe("the log of Nix", () => {
  it("loses its colours, and keeps lines that are no messages of Nix", () => {
    const log = new NixLog()
    log.push("flock: not found")
    log.push("@nix {broken")
    log.push("@nix [1]")
    log.push(`@nix {"action":"msg","level":0,"msg":"\\u001b[31;1merror:\\u001b[0m no \\u001b[35;1m'x'\\u001b[0m"}`)
    log.push(`@nix {"action":"msg","level":5,"msg":"chatter"}`)
    log.push(`@nix {"action":"msg","msg":7}`)
    assert.deepStrictEqual(log.messages.map(({ text }) => text), [
      "flock: not found",
      "@nix {broken",
      "@nix [1]",
      "error: no 'x'"
    ])
  })

  it("is bounded, and keeps its beginning and its end", () => {
    const log = new NixLog()
    for (let at = 0; at < 5000; at++) log.push(`@nix {"action":"msg","level":3,"msg":"${at} ${"x".repeat(10_000)}"}`)
    assert.strictEqual(log.messages.length, 400)
    assert.match(log.messages[0]!.text, /^0 /)
    assert.match(log.messages.at(-1)!.text, /^4999 /)
    assert.isBelow(log.messages[0]!.text.length, 5000)
  })

  const asNixWrites = (value: Readonly<Record<string, unknown>>) =>
    JSON.stringify(Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => a < b ? -1 : 1)))
  const forms: ReadonlyArray<readonly [string, (value: Readonly<Record<string, unknown>>) => string]> = [
    ["as Nix writes", asNixWrites],
    ["in another form", (value) => JSON.stringify(value, undefined, 1).replaceAll("\n", "")]
  ]
  it.each(forms)("counts the bytes of closures and not of their descriptions, %s", (_, written) => {
    const log = new NixLog()
    const push = (value: Readonly<Record<string, unknown>>) => log.push(`@nix ${written(value)}`)
    assert.isUndefined(log.progress)
    push({ action: "start", id: 1, type: 101, fields: [narinfo] })
    push({ action: "result", id: 1, type: 105, fields: [519, 519, 0, 0] })
    assert.isUndefined(log.progress)
    push({ action: "result", id: 9, type: 106, fields: [101, 1000] })
    push({ action: "result", id: 9, type: 106, fields: [100, 5000] })
    push({ action: "start", id: 2, type: 101, fields: [nar] })
    push({ action: "start", id: 3, type: 101, fields: [nar] })
    push({ action: "result", id: 2, type: 105, fields: [600, 600, 0, 0] })
    push({ action: "result", id: 3, type: 105, fields: [100, 400, 0, 0] })
    push({ action: "stop", id: 2 })
    push({ action: "result", id: 3, type: 105, fields: [-1] })
    push({ action: "result", id: 3, type: 105, fields: [150, 400, 0, 0] })
    push({ action: "result", id: 3, type: 105, fields: "no" })
    push({ action: "result", id: 3, type: 105, fields: [150, 400, 0, 0] })
    assert.deepStrictEqual(log.progress, { doneBytes: 750, expectedBytes: 1000 })
  })
})
