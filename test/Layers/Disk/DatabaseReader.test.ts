import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Result } from "effect"
import { spawnSync } from "node:child_process"
import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { Database, type Migrations } from "../../../src/Layers/Disk/Database.ts"
import { openReader } from "../../../src/Layers/Disk/DatabaseReader.ts"
import { layerProcessLock, lockHolder } from "../../../src/Layers/Disk/ProcessLock.ts"
import { noMounts, smallDisk, temporaryDirectory } from "../../support/directories.ts"

const notes: Migrations = {
  applicationId: 0x6e6f7465,
  title: "notes",
  major: 1,
  minors: ["CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT"]
}

const writer = Effect.fnUntraced(function*(file: string, migrations = notes) {
  const context = yield* Layer.build(Layer.fresh(Database.layerFile(file, migrations, { reserveBytes: 0 })))
  return yield* Effect.provide(Database, context)
})

const write = (database: Database["Service"], text: string) =>
  database.transaction((sql) => sql.run("INSERT INTO notes (text) VALUES (?)", text))

const texts = (rows: Iterable<{ readonly [column: string]: unknown }>) => [...rows].map((row) => row["text"])

/** What reading fails with; `undefined` when it does not. */
const reasonOf = (file: string, migrations = notes) =>
  Effect.map(
    Effect.result(Effect.scoped(openReader(file, migrations))),
    (result) => Result.isFailure(result) ? result.failure.reason : undefined
  )

/** A database that was written and closed. */
const written = Effect.fnUntraced(function*(directory: string, migrations = notes) {
  const file = join(directory, "notes.db")
  yield* Effect.scoped(Effect.map(writer(file, migrations), (database) => {
    for (let count = 0; count < 500; count++) write(database, "x".repeat(100))
  }))
  return file
})

describe("a reader", () => {
  it.live("sees one moment while the writer goes on, and does not hold it up", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "notes.db")
      const database = yield* writer(file)
      write(database, "before")
      const reader = yield* openReader(file, notes)
      for (let count = 0; count < 3000; count++) write(database, "after")
      assert.deepStrictEqual(texts(reader!.each("SELECT text FROM notes ORDER BY id")), ["before"])
      assert.deepStrictEqual(texts(reader!.sql.all("SELECT text FROM notes ORDER BY id")), ["before"])
      assert.deepStrictEqual(reader!.damages(), [])
    }))

  it.live("finds nothing where nothing was ever made, and makes nothing", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      assert.isUndefined(yield* openReader(join(directory, "notes.db"), notes))
      assert.isUndefined(yield* openReader(join(directory, "missing", "notes.db"), notes))
      writeFileSync(join(directory, "empty.db"), "")
      assert.isUndefined(yield* openReader(join(directory, "empty.db"), notes))
      assert.deepStrictEqual(yield* lockHolder(directory), { _tag: "Nobody" })
      assert.strictEqual(spawnSync("ls", [directory]).stdout.toString(), "empty.db\n")
    }))

  it.live("refuses by name what another program, another major version or no program wrote", () =>
    Effect.gen(function*() {
      const file = yield* written(yield* temporaryDirectory)
      assert.strictEqual(yield* reasonOf(file), undefined)
      assert.strictEqual(yield* reasonOf(file, { ...notes, applicationId: 7 }), "database-foreign")
      assert.strictEqual(yield* reasonOf(file, { ...notes, major: 2 }), "database-other-major")
      const newer = yield* written(yield* temporaryDirectory, { ...notes, major: 2 })
      assert.strictEqual(yield* reasonOf(newer), "database-other-major")
      writeFileSync(file, "not a database, and longer than a header of one would be: ".repeat(20))
      assert.strictEqual(yield* reasonOf(file), "database-corrupt")
      assert.strictEqual(yield* reasonOf(yield* temporaryDirectory), "database-failed")
    }))

  it.live("reads a newer minor version, and not an older one", () =>
    Effect.gen(function*() {
      const file = yield* written(yield* temporaryDirectory)
      const newer = { ...notes, minors: [...notes.minors, "ALTER TABLE notes ADD COLUMN note TEXT"] }
      assert.strictEqual(yield* reasonOf(file, newer), "database-failed")
      const ahead = yield* written(yield* temporaryDirectory, newer)
      assert.strictEqual(yield* reasonOf(ahead), undefined)
    }))

  it.live("tells damage: a file that was cut off, and a page that was overwritten", () =>
    Effect.gen(function*() {
      const file = yield* written(yield* temporaryDirectory)
      const bytes = readFileSync(file)
      rmSync(`${file}-wal`, { force: true })
      rmSync(`${file}-shm`, { force: true })
      bytes.fill(0x5a, 3 * 4096, 4 * 4096)
      writeFileSync(file, bytes)
      const found = yield* Effect.scoped(Effect.flatMap(openReader(file, notes), (reader) =>
        Effect.try({
          try: () => reader!.damages(),
          catch: String
        }).pipe(Effect.catch((text) => Effect.succeed([text])))))
      assert.isNotEmpty(found)
      truncateSync(file, 4096 + 100)
      const cut = yield* Effect.result(Effect.scoped(Effect.flatMap(openReader(file, notes), (reader) =>
        Effect.try({
          try: () => reader!.damages(),
          catch: (error) => error
        }))))
      assert.isTrue(Result.isFailure(cut) || cut.success.length > 0)
    }))

  it.live.skipIf(noMounts !== undefined)("reads on a file system that takes no files", () =>
    Effect.gen(function*() {
      const directory = yield* smallDisk(4_194_304)
      const file = yield* written(directory)
      assert.strictEqual(spawnSync("mount", ["-o", "remount,ro", directory]).status, 0)
      yield* Effect.scoped(
        Effect.map(openReader(file, notes), (reader) => assert.lengthOf(reader!.sql.all("SELECT id FROM notes"), 500))
      )
      assert.deepStrictEqual(yield* lockHolder(directory), { _tag: "Nobody" })
    }))
})

describe("the holder of a state directory", () => {
  it.live("is seen from another process, which keeps nobody out", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const look = () => {
        const script = `import { Effect } from "effect"
          import { lockHolder } from ${
          JSON.stringify(join(import.meta.dirname, "../../../src/Layers/Disk/ProcessLock.ts"))
        }
          console.log(JSON.stringify(await Effect.runPromise(lockHolder(${JSON.stringify(directory)}))))`
        return spawnSync(process.execPath, ["--input-type=module", "-e", script], { cwd: import.meta.dirname }).stdout
          .toString()
      }
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Layer.build(layerProcessLock(directory))
        assert.deepStrictEqual(JSON.parse(look()), { _tag: "Process", pid: process.pid })
      }))
      assert.deepStrictEqual(JSON.parse(look()), { _tag: "Nobody" })
      // Another process looks while this one starts: the start waits for that moment.
      const other = new DatabaseSync(join(directory, "process.lock"), { readOnly: true })
      other.close()
      yield* Effect.scoped(Layer.build(layerProcessLock(directory)))
    }))
})
