import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Layer, Result, Scope } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { CommitHeld } from "../../../src/Layers/Disk/CommitHeld.ts"
import { Database, DatabaseError, type FileOptions, type Migrations } from "../../../src/Layers/Disk/Database.ts"
import { MemoryDisk } from "../../../src/Layers/Disk/MemoryDisk.ts"
import { fillDisk, freeDisk, noMounts, smallDisk, temporaryDirectory } from "../../support/directories.ts"

const migrations: Migrations = {
  applicationId: 0x6e66_7431,
  title: "the test's journal",
  major: 1,
  minors: ["CREATE TABLE parent(id INTEGER PRIMARY KEY); CREATE TABLE row(id INTEGER PRIMARY KEY, text TEXT NOT NULL)"]
}
const newer: Migrations = {
  ...migrations,
  minors: [
    ...migrations.minors,
    "ALTER TABLE row ADD COLUMN note TEXT NOT NULL DEFAULT ''; CREATE TABLE extra(id INTEGER)"
  ]
}

type Open = Context.Service.Shape<typeof Database>

/** Opens a file, gives it to `use`, closes it: one life of a process. */
const during = <A>(file: string, use: (db: Open) => A, schema = migrations, options?: FileOptions) =>
  Effect.map(Database, use).pipe(Effect.provide(Database.layerFile(file, schema, { reserveBytes: 4096, ...options })))

const insert = (db: Open, text: string) => db.transaction((sql) => sql.run("INSERT INTO row(text) VALUES (?)", text))
const texts = (db: Open) => db.sql.all("SELECT text FROM row ORDER BY id").map(({ text }) => text)
const thrown = (f: () => unknown): unknown =>
  Result.match(Result.try({ try: f, catch: (e) => e }), {
    onFailure: (error) => error,
    onSuccess: () => "nothing was thrown"
  })
const failureOf = (file: string, schema = migrations) => Effect.flip(during(file, () => undefined, schema))

const root = fileURLToPath(new URL("../../..", import.meta.url))

/** A process that commits three rows a transaction, tells each commit, and is killed in the middle; how many it told. */
const killedWriter = (file: string, round: number) =>
  Effect.promise(async () => {
    const script = `
      import { writeSync } from "node:fs"
      import { Effect } from "effect"
      import { Database } from "./src/Layers/Disk/Database.ts"
      const migrations = ${JSON.stringify(migrations)}
      const write = ({ transaction }) => Effect.sync(() => {
        for (let n = 0; ; n++) {
          transaction((sql) => { for (let i = 0; i < 3; i++) sql.run("INSERT INTO row(text) VALUES (?)", "${round} " + n) })
          writeSync(1, "x")
        }
      })
      Effect.runSync(Effect.provide(Effect.flatMap(Database, write), Database.layerFile(${
      JSON.stringify(file)
    }, migrations)))`
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"]
    })
    let told = 0
    child.stdout.on("data", (chunk: Buffer) => {
      told += chunk.length
      if (told > 20) child.kill("SIGKILL")
    })
    await once(child, "close")
    return told
  })

describe("a database in a file", () => {
  it.effect("what was committed is there at the next start; what failed is not, whole", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      yield* during(file, (db) => {
        insert(db, "one")
        const error = thrown(() =>
          db.transaction((sql) => {
            sql.run("INSERT INTO row(text) VALUES (?)", "two")
            throw new TypeError("a fault of the caller")
          })
        )
        assert.instanceOf(error, TypeError)
        insert(db, "three")
      })
      assert.deepStrictEqual(yield* during(file, texts), ["one", "three"])
    }))

  it.effect("is private, synchronous and keeps foreign keys", () =>
    Effect.gen(function*() {
      const directory = join(yield* temporaryDirectory, "state")
      const file = join(directory, "journal.db")
      yield* during(file, (db) => {
        insert(db, "one")
        const modes = ["", "-wal", "-shm"].map((suffix) => statSync(file + suffix).mode & 0o777)
        assert.deepStrictEqual(modes, [0o600, 0o600, 0o600])
        assert.strictEqual(statSync(directory).mode & 0o777, 0o700)
        const pragma = (name: string) => Object.values(db.sql.get(`PRAGMA ${name}`) ?? {})[0]
        assert.deepStrictEqual(
          [pragma("journal_mode"), pragma("synchronous"), pragma("busy_timeout"), pragma("foreign_keys")],
          ["wal", 2, 50, 1]
        )
      })
    }))

  it.effect("a writer from outside holds the commit; nothing is lost", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      yield* during(file, (db) => {
        const shell = new DatabaseSync(file)
        shell.exec("BEGIN IMMEDIATE")
        const error = thrown(() => insert(db, "one"))
        assert.isTrue(error instanceof CommitHeld && error.reason === "database-locked")
        shell.close()
        insert(db, "one")
        assert.deepStrictEqual(texts(db), ["one"])
      })
    }))
})

describe("a process that is killed", () => {
  it.live("loses nothing that it was told is durable, and leaves nothing half written", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const file = join(directory, "journal.db")
      for (let round = 0; round < 3; round++) {
        const told = yield* killedWriter(file, round)
        assert.isAbove(told, 0)
        const kept = yield* during(file, (db) =>
          db.sql.all("SELECT text, count(*) AS rows FROM row WHERE text LIKE ? GROUP BY text", `${round} %`))
        // The last transaction may have become durable without anybody being told.
        assert.include([told, told + 1], kept.length)
        assert.isTrue(kept.every(({ rows }) =>
          rows === 3
        ))
      }
    }))
})

describe("versions", () => {
  it.effect("an older program opens a newer minor version, works, and does not take it back", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      yield* during(file, (db) => insert(db, "by the new one"), newer)
      assert.deepStrictEqual(
        yield* during(file, (db) => {
          insert(db, "by the old one")
          return texts(db)
        }),
        ["by the new one", "by the old one"]
      )
      const notes = (db: Open) => db.sql.all("SELECT note FROM row").length
      assert.strictEqual(yield* during(file, notes, newer), 2)
    }))

  it.effect("a newer program brings an older database up, rows included", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      yield* during(file, (db) => insert(db, "old"))
      assert.deepStrictEqual(
        yield* during(file, (db) => db.sql.get("SELECT text, note FROM row"), newer).pipe(
          Effect.map((row) => ({ ...row }))
        ),
        { text: "old", note: "" }
      )
    }))

  it.effect("a migration that fails changes nothing", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      const broken = { ...newer, minors: [...newer.minors, "CREATE TABLE good(id INTEGER); this is not SQL"] }
      assert.strictEqual((yield* failureOf(file, broken)).reason, "database-failed")
      assert.deepStrictEqual(yield* during(file, texts), [])
    }))

  it.effect("another major version, another program's database and a stranger's are refused by name", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      yield* during(file, (db) => insert(db, "one"))
      const major = yield* failureOf(file, { ...migrations, major: 2 })
      assert.strictEqual(major.reason, "database-other-major")
      assert.include(major.message, file)
      assert.strictEqual((yield* failureOf(file, { ...migrations, applicationId: 1 })).reason, "database-foreign")
      const stranger = join(yield* temporaryDirectory, "other.db")
      const shell = new DatabaseSync(stranger)
      shell.exec("CREATE TABLE accounts(id INTEGER)")
      shell.close()
      assert.strictEqual((yield* failureOf(stranger)).reason, "database-foreign")
      assert.deepStrictEqual(yield* during(file, texts), ["one"])
    }))
})

describe("damage", () => {
  const damaged = (name: string, damage: (file: string) => void) =>
    it.effect(`${name} is named, with the file and what to do`, () =>
      Effect.gen(function*() {
        const file = join(yield* temporaryDirectory, "journal.db")
        yield* during(file, (db) => {
          for (let i = 0; i < 100; i++) insert(db, "x".repeat(500))
        })
        damage(file)
        const bytes = readFileSync(file)
        const exit = yield* Effect.exit(during(file, texts))
        const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : "it was read"
        assert.isTrue(error instanceof DatabaseError && error.reason === "database-corrupt", String(error))
        assert.include(String(error), file)
        assert.deepStrictEqual(readFileSync(file), bytes)
      }))
  damaged(
    "another kind of file",
    (file) => writeFileSync(file, "this is a text file, and not a short one: ".repeat(100))
  )
  damaged("a truncated file", (file) => truncateSync(file, 8192))
  damaged("an overwritten page", (file) => {
    const bytes = readFileSync(file)
    bytes.fill(0x5a, 4096, 12_288)
    writeFileSync(file, bytes)
  })

  it.effect("a directory that others may write is refused, and left as it is", () =>
    Effect.gen(function*() {
      const directory = join(yield* temporaryDirectory, "state")
      mkdirSync(directory)
      chmodSync(directory, 0o777)
      assert.strictEqual((yield* failureOf(join(directory, "journal.db"))).reason, "state-directory-unsafe")
      assert.strictEqual(statSync(directory).mode & 0o777, 0o777)
      assert.isFalse(existsSync(join(directory, "journal.db")))
    }))
})

/** Takes every byte that becomes free on a disk, as a log that grows does, until the scope ends. */
const greedyWriter = (directory: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn("sh", ["-c", "while :; do dd if=/dev/zero bs=64 >>greedy 2>/dev/null; done"], { cwd: directory })
    ),
    (child) => Effect.promise(() => ended(child))
  )

const ended = (child: ReturnType<typeof spawn>) => {
  const exit = once(child, "exit")
  child.kill("SIGKILL")
  return exit
}

describe("a full disk", () => {
  it.effect.skipIf(noMounts !== undefined)(
    "gives up the reserve slice by slice, holds when it is used up, and takes it back when there is room",
    () =>
      Effect.gen(function*() {
        const directory = yield* smallDisk(2 * 1024 * 1024)
        const file = join(directory, "journal.db")
        const reserve = `${file}.reserve`
        yield* during(
          file,
          (db) => {
            insert(db, "first")
            assert.strictEqual(statSync(reserve).size, 256 * 1024)
            fillDisk(directory)
            insert(db, "the rollback that had to be written")
            const left = statSync(reserve).size
            assert.isTrue(left >= 224 * 1024 && left < 256 * 1024, String(left))
            let written = 0
            const error = thrown(() => {
              for (;;) {
                insert(db, "y".repeat(20_000))
                written += 1
              }
            })
            assert.isTrue(error instanceof CommitHeld && error.reason === "disk-full", String(error))
            assert.isFalse(existsSync(reserve))
            assert.isAtLeast(written, 8)
            assert.strictEqual(texts(db).length, 2 + written)
            freeDisk(directory)
            insert(db, "last")
            assert.strictEqual(statSync(reserve).size, 256 * 1024)
          },
          migrations,
          { reserveBytes: 256 * 1024 }
        )
        const found = yield* during(file, texts)
        assert.deepStrictEqual(found.slice(0, 2), ["first", "the rollback that had to be written"])
        assert.strictEqual(found.at(-1), "last")
      })
  )

  it.live.skipIf(noMounts !== undefined)(
    "that somebody else keeps full takes what has to be written all the same",
    () =>
      Effect.gen(function*() {
        const directory = yield* smallDisk(16 * 1024 * 1024)
        const file = join(directory, "journal.db")
        const context = yield* Layer.build(Database.layerFile(file, migrations))
        const db = Context.get(context, Database)
        insert(db, "first")
        yield* greedyWriter(directory)
        const isFull = Effect.sync(() => statfsSync(directory).bavail === 0)
        for (const text of ["the failure", "the rollback", "its result"]) {
          yield* Effect.repeat(Effect.delay(isFull, 5), { until: (full) => full })
          insert(db, text)
        }
        assert.deepStrictEqual(texts(db), ["first", "the failure", "the rollback", "its result"])
      })
  )

  it.effect.skipIf(noMounts !== undefined)(
    "whose reserve a person deleted holds, and is no fault",
    () =>
      Effect.gen(function*() {
        const directory = yield* smallDisk(2 * 1024 * 1024)
        const file = join(directory, "journal.db")
        const reserveBytes = 256 * 1024
        yield* during(
          file,
          (db) => {
            insert(db, "first")
            rmSync(`${file}.reserve`)
            fillDisk(directory)
            const error = thrown(() => insert(db, "y".repeat(200_000)))
            assert.isTrue(error instanceof CommitHeld && error.reason === "disk-full", String(error))
          },
          migrations,
          { reserveBytes }
        )
      })
  )

  it.effect("a page limit holds in the same way", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      yield* during(file, (db) => {
        insert(db, "first")
        db.sql.get("PRAGMA max_page_count=8")
        const error = thrown(() => insert(db, "z".repeat(100_000)))
        assert.isTrue(error instanceof CommitHeld && error.reason === "disk-full", String(error))
        db.sql.get("PRAGMA max_page_count=1000000")
        insert(db, "z")
        assert.deepStrictEqual(texts(db), ["first", "z"])
      })
    }))

  it.effect("a read-only database holds", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      yield* during(file, (db) => {
        db.sql.get("PRAGMA query_only=1")
        const error = thrown(() => insert(db, "one"))
        assert.isTrue(error instanceof CommitHeld && error.reason === "disk-read-only", String(error))
      })
    }))
})

describe("a disk in memory", () => {
  const life = <A>(disk: MemoryDisk, use: (db: Open) => A) =>
    Effect.map(Database, use).pipe(Effect.provide(Layer.fresh(Database.layerMemory(disk, migrations))))

  it.effect("outlives the process, and its faults do what they say", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("a's disk")
      yield* life(disk, (db) => {
        insert(db, "one")
        disk.fail("full", "failed", "doneButError")
        assert.isTrue(thrown(() => insert(db, "refused")) instanceof CommitHeld)
        assert.include(String(thrown(() => insert(db, "failed"))), "disk I/O error")
        assert.include(String(thrown(() => insert(db, "done"))), "disk I/O error")
        insert(db, "two")
      })
      assert.deepStrictEqual(yield* life(disk, texts), ["one", "done", "two"])
    }))

  it.effect("can be put back to what it was", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("a's disk")
      yield* life(disk, (db) => insert(db, "one"))
      const image = disk.image()
      yield* life(disk, (db) => insert(db, "two"))
      disk.restore(image)
      assert.deepStrictEqual(yield* life(disk, texts), ["one"])
      yield* life(disk, (db) => insert(db, "three"))
      assert.deepStrictEqual(yield* life(disk, texts), ["one", "three"])
    }))

  it.effect("is open as long as the scope that opened it", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "journal.db")
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Database.layerFile(file, migrations, { reserveBytes: 4096 }), scope)
      const db = Context.get(context, Database)
      insert(db, "one")
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(existsSync(`${file}-wal`))
      assert.include(String(thrown(() => insert(db, "two"))), "not open")
    }))
})
