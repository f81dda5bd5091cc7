import { assert, describe, it as test, layer } from "@effect/vitest"
import { Effect } from "effect"
import { chmodSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { makeAuthority } from "../../examples/certificates.ts"
import { disagreements } from "../../src/ControlPlane/Disagreements.ts"
import { foldLog } from "../../src/ControlPlane/Fold.ts"
import { Touched } from "../../src/ControlPlane/fold/Touched.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { agentSuffix, Certificates } from "../support/certificates.ts"
import { controlPlaneMain, runCommand } from "../support/command.ts"
import { dispatched, openJournal, Plane, type Release } from "../support/controlPlane.ts"
import { publish, type Site, site, start } from "../support/controlPlaneProcess.ts"
import { temporaryDirectory } from "../support/directories.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }

describe("disagreements", () => {
  test.effect("names what is stored otherwise than the log means, and nothing else", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("control plane")
      const plane = new Plane(yield* openJournal(disk))
      plane.publish(r1)
      plane.hear(r1)
      const host = dispatched(plane, "h1")
      host.soaks(plane)
      host.rollsBack(plane)
      const compared = Effect.gen(function*() {
        const journal = yield* openJournal(disk)
        const { initial } = journal
        return disagreements(foldLog(initial.databaseId, yield* journal.rows, new Touched()), initial)
      })
      assert.deepStrictEqual(yield* compared, [])
      disk.db.exec("UPDATE host_records SET last_seq = last_seq + 1 WHERE id = 1")
      disk.db.exec("UPDATE meta SET value = '9' WHERE key = 'next_delivery'")
      disk.db.exec("DELETE FROM quarantined_closures")
      const wrong = yield* compared
      assert.lengthOf(wrong, 3)
      assert.match(wrong[0] ?? "", /^the number of the next delivery is stored otherwise/)
      assert.match(wrong[1] ?? "", /^the quarantine of .* is in the event log, and not stored$/)
      assert.match(wrong[2] ?? "", /^the record of h1 in stable@a1 is stored otherwise/)
    }))
})

/** The options of `serve` are those of `check`. */
const check = ({ args }: Site, ...more: ReadonlyArray<string>) =>
  runCommand(controlPlaneMain, ["check", ...args.slice(1), ...more])

/** The site with another value for one option. */
const changed = (found: Site, flag: string, value: string): Site => ({
  ...found,
  args: found.args.map((arg, index) => found.args[index - 1] === flag ? value : arg)
})

describe("nixfleet-control-plane check", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("says what is right, before the first start and while it runs", () =>
      Effect.gen(function*() {
        const found = yield* site
        const before = check(found, "--deep")
        assert.deepStrictEqual([before.code, before.errors], [0, ""])
        for (
          const text of [
            "release keys current",
            "authorities of hosts and operators",
            "no release is published yet",
            "state will be made",
            "no control plane ever ran"
          ]
        ) assert.include(before.out, text)

        const running = yield* start(found.args)
        const { rolloutId } = publish(found, Date.now())
        yield* running.line((line) => JSON.stringify(line).includes(rolloutId))
        const during = check(found, "--deep")
        assert.deepStrictEqual([during.code, during.errors], [0, ""])
        assert.include(during.out, "a release is published")
        assert.include(during.out, "every page and index is whole")
        assert.match(during.out, /what is stored is what its [1-9][0-9]* rows mean/)
        running.process.kill("SIGTERM")
        assert.deepStrictEqual(yield* running.ended, { code: 0, signal: null })

        const db = new DatabaseSync(join(found.stateDir, "journal.db"))
        db.exec("DELETE FROM channels")
        db.close()
        const wrong = check(found, "--deep")
        assert.strictEqual(wrong.code, 78)
        assert.include(wrong.errors, "the channel stable is in the event log, and not stored")
        assert.strictEqual(check(found).code, 0, "without --deep the journal is not read")

        for (const suffix of ["-wal", "-shm"]) rmSync(join(found.stateDir, `journal.db${suffix}`), { force: true })
        truncateSync(join(found.stateDir, "journal.db"), 5000)
        const cut = check(found, "--deep")
        assert.strictEqual(cut.code, 78)
        assert.include(cut.errors, "journal.db")
      }))

    it.effect("says whether hosts can be given certificates, and whether those would be let in", () =>
      Effect.gen(function*() {
        const { authority, caFile, directory } = yield* Certificates
        const found = yield* site
        assert.include(check(found).out, "no authority is given: hosts are neither enrolled nor renewed here")
        const [key, otherCert, otherKey] = ["check-ca-key.pem", "other-ca.pem", "other-ca-key.pem"].map((name) =>
          join(directory, name)
        )
        const other = makeAuthority({ commonName: "other", now: Date.now(), agentSuffix })
        writeFileSync(key!, authority.key, { mode: 0o600 })
        writeFileSync(otherCert!, other.cert)
        writeFileSync(otherKey!, other.key, { mode: 0o600 })
        const issuing = (cert: string, file: string) =>
          check(found, "--issuance-ca-cert", cert, "--issuance-ca-key", file)
        const good = issuing(caFile, key!)
        assert.deepStrictEqual([good.code, good.errors], [0, ""])
        assert.include(good.out, "issues certificates to hosts")
        assert.include(issuing(caFile, otherKey!).errors, "is not the key of the authority's certificate")
        assert.include(issuing(otherCert!, otherKey!).errors, "hosts that enroll here would be refused")
        chmodSync(key!, 0o640)
        assert.include(issuing(caFile, key!).errors, "others may use the authority's private key")
      }))

    it.effect("secrets that others may use are wrong, all at once, and with one of them nothing is served: exit 78", () =>
      Effect.gen(function*() {
        const { authority, caFile, serverFiles } = yield* Certificates
        const found = yield* site
        const directory = yield* temporaryDirectory
        const secret = (name: string, content: string) => {
          writeFileSync(join(directory, name), content)
          return join(directory, name)
        }
        const files = [
          secret("server", readFileSync(serverFiles.key, "utf8")),
          secret("ca", authority.key),
          secret("token", "t")
        ] as const
        const [tlsKey, caKey, tokenFile] = files
        const args = [
          ...changed(changed(found, "--tls-key", tlsKey), "--releases-source", "https://127.0.0.1:9/").args,
          "--issuance-ca-cert",
          caFile,
          "--issuance-ca-key",
          caKey,
          "--releases-token-file",
          tokenFile
        ]
        const judged = (command: "check" | "serve") => {
          const { code, errors } = runCommand(controlPlaneMain, [command, ...args.slice(1)])
          return { code, names: files.filter((file) => errors.includes(`${file} (mode`)) }
        }
        for (const mode of [0o640, 0o604]) {
          for (const file of files) chmodSync(file, mode)
          for (const command of ["check", "serve"] as const) {
            assert.deepStrictEqual(judged(command), { code: 78, names: [...files] }, `${command} ${mode.toString(8)}`)
          }
        }
        for (const file of files) chmodSync(file, 0o600)
        chmodSync(caKey, 0o604)
        assert.deepStrictEqual(judged("serve"), { code: 78, names: [caKey] })
        chmodSync(caKey, 0o400)
        assert.deepStrictEqual(judged("check").names, [])
        yield* start(args)
      }))

    it.effect("names everything that is wrong at once, exit 78", () =>
      Effect.gen(function*() {
        const { caFile } = yield* Certificates
        const found = yield* site
        writeFileSync(found.trustFile, "{")
        const sites = changed(changed(found, "--tls-key", caFile), "--releases-source", "http://127.0.0.1:9/")
        const { code, errors } = check(sites)
        assert.strictEqual(code, 78)
        for (
          const text of [`flag --trust-file: ${found.trustFile}`, "flag --tls-cert: ", "flag --releases-source: http"]
        ) {
          assert.include(errors, text)
        }
      }))

    it.effect("refuses another program's database by name", () =>
      Effect.gen(function*() {
        const found = yield* site
        const other = new MemoryDisk("other")
        other.db.exec("CREATE TABLE t (a); PRAGMA application_id = 7")
        mkdirSync(found.stateDir, { mode: 0o700 })
        writeFileSync(join(found.stateDir, "journal.db"), other.image())
        const { code, errors } = check(found, "--deep")
        assert.strictEqual(code, 78)
        assert.include(errors, "is a database of another program, not the control plane's journal")
      }))
  })
})
