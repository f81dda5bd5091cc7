import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { deepCheck } from "../../src/Agent/DeepCheck.ts"
import { readStatus } from "../../src/Agent/Status.ts"
import type { HostReader } from "../../src/Layers/Host/Activator.ts"
import { Bench } from "../support/agentBench.ts"
import { dispatch, newSystem, oldSystem, r1, second, thirdSystem } from "../support/agentRig.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { configOn, wholeHost, writeJournal } from "../support/journalFiles.ts"

/** What is found in a journal on which `damage` was done. */
const found = Effect.fnUntraced(function*(
  damage: (file: string) => void,
  options: { readonly host?: HostReader; readonly bench?: Bench } = {}
) {
  const directory = yield* temporaryDirectory
  const bench = options.bench ?? new Bench().soak()
  if (options.bench === undefined) bench.pass(5 * second).sample("pass")
  yield* writeJournal(directory, bench)
  damage(join(directory, "journal.db"))
  const config = configOn(directory)
  const findings = yield* deepCheck({ config, sourceOf: (key) => `flag ${key}` }, options.host ?? wholeHost)
  return {
    wrong: findings.filter(({ ok }) => !ok).map(({ text }) => text.replaceAll(directory, "")),
    right: findings.filter(({ ok }) => ok).map(({ text }) => text.replaceAll(directory, "")),
    status: yield* Effect.result(readStatus(config, wholeHost))
  }
})

const sql = (text: string) => (file: string) => {
  const db = new DatabaseSync(file, { defensive: false })
  db.exec(text)
  db.close()
}

const asItIs = () => {}

describe("check --deep", () => {
  it.live("says that all is well, and of what", () =>
    Effect.gen(function*() {
      const { right, wrong } = yield* found(asItIs)
      assert.deepStrictEqual(wrong, [])
      assert.deepStrictEqual(right, [
        "/journal.db: every page and index is whole",
        "/journal.db: 1 records are what their 5 rows mean",
        `${oldSystem} runs, and is there`,
        `${oldSystem} is the next boot, and is there`,
        `${oldSystem} is where a rollback goes, and is there`,
        "/trust-memory.db: every page and index is whole"
      ])
    }))

  it.live("says so where no agent ever ran", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const findings = yield* deepCheck(
        { config: configOn(join(directory, "state")), sourceOf: (key) => key },
        wholeHost
      )
      assert.deepStrictEqual(findings.map(({ ok, text }) => [ok, text]), [[
        true,
        `no agent ever ran on ${directory}/state`
      ]])
    }))

  for (
    const [what, damage, text] of [
      [
        "a record that is not what its rows mean",
        sql(
          "UPDATE rollouts SET folded = replace(folded, 'Soaking', 'Soaking'), folded = json_set(folded, '$.record.soakedMs', 77)"
        ),
        "stable@01: stored as Soaking 5, rows mean Soaking 5"
      ],
      ["a row that is missing", sql("DELETE FROM events WHERE seq = 1"), "stable@01: its rows do not fold: "],
      ["a row that cannot be read", sql("UPDATE events SET entry = '{' WHERE seq = 2"), "/journal.db cannot be read: "],
      [
        "another host's journal",
        sql("UPDATE meta SET value = 'host-2' WHERE key = 'hostname'"),
        "was written by host-2"
      ],
      ["a newer major version", sql("PRAGMA user_version = 131072"), "has major version 2"],
      ["another program's database", sql("PRAGMA application_id = 5"), "is a database of another program"],
      [
        "an index that has lost an entry",
        sql(
          "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'rejections') WHERE name = 'events_delivery'"
        ),
        "/journal.db: "
      ],
      ["a file that was cut off", (file: string) => truncateSync(file, readFileSync(file).length / 2), "/journal.db"],
      ["something that is no database", (file: string) => writeFileSync(file, "x".repeat(9000)), "the file is damaged"]
    ] as const
  ) {
    it.live(`finds ${what}, and status never says that all is well of it by accident`, () =>
      Effect.gen(function*() {
        const { status, wrong } = yield* found(damage)
        assert.isNotEmpty(wrong)
        assert.include(wrong.join("\n"), text)
        // Either refused by name, or shown: never a defect.
        assert.include(["Success", "Failure"], status._tag)
      }))
  }

  it.live("finds a closure that is gone, a link and a result that cannot be read", () =>
    Effect.gen(function*() {
      const halfThere: HostReader = {
        ...wholeHost,
        current: Effect.succeed({ running: newSystem, profile: thirdSystem }),
        has: (closure) => closure === newSystem ? Effect.succeed(true) : Effect.succeed(false)
      }
      const gone = yield* found(asItIs, { host: halfThere })
      assert.deepStrictEqual(gone.wrong, [
        `${thirdSystem} is the next boot, and is not there or not whole`,
        `${oldSystem} is where a rollback goes, and is not there or not whole`
      ])
      const blind = yield* found(asItIs, { host: { ...wholeHost, current: Effect.fail("EIO") } })
      assert.deepStrictEqual(blind.wrong, ["what runs cannot be read: EIO"])
      const bench = new Bench()
      bench.accept(dispatch())
      bench.accept({ _tag: "ActivationStarted", rolloutId: r1, attempt: 1, switchMethod: "archive", at: 0 })
      const running = yield* found(asItIs, { bench })
      assert.include(running.right, `forward switch 1 of ${r1}: Running`)
      const lost = yield* found(asItIs, { bench, host: { ...wholeHost, switchResult: () => Effect.fail("EIO") } })
      assert.deepStrictEqual(lost.wrong, [`forward switch 1 of ${r1}: its result cannot be read: EIO`])
    }))
})
