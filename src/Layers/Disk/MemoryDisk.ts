/**
 * A disk for the simulator and for tests: one database in memory that outlives the process that writes it, with faults
 * where a disk's faults matter, at the commit (D20). Torn pages and fsync belong to tests on real files.
 */
import { DatabaseSync } from "node:sqlite"
import { CommitHeld } from "./CommitHeld.ts"
import { DatabaseError } from "./Sqlite.ts"

/**
 * `full`: refused, may be tried again. `failed`: an error, and nothing is durable. `doneButError`: an error, and
 * everything is durable.
 */
export type CommitFault = "full" | "failed" | "doneButError"

export class MemoryDisk {
  readonly file: string
  private connection = new DatabaseSync(":memory:")
  private readonly faults: Array<CommitFault> = []

  /** `name` stands for the file in messages. */
  constructor(name: string) {
    this.file = name
  }

  get db(): DatabaseSync {
    return this.connection
  }

  /** The next commits meet these faults, one each. */
  fail(...faults: ReadonlyArray<CommitFault>): void {
    this.faults.push(...faults)
  }

  /** Ends the open transaction as the next fault says. */
  commit(): void {
    const fault = this.faults.shift()
    switch (fault) {
      case undefined:
        this.connection.exec("COMMIT")
        return
      case "full":
        throw new CommitHeld({ reason: "disk-full", message: `${this.file}: database or disk is full` })
      case "failed":
        throw this.ioError()
      case "doneButError":
        this.connection.exec("COMMIT")
        throw this.ioError()
    }
  }

  /** Everything that is durable now. */
  image(): Uint8Array {
    return this.connection.serialize()
  }

  /** The disk is as it was when the image was taken, as after a restored backup. Only while no process has it open. */
  restore(image: Uint8Array): void {
    this.wipe()
    this.connection.deserialize(image)
  }

  /** The disk is new. Only while no process has it open. */
  wipe(): void {
    this.connection = new DatabaseSync(":memory:")
  }

  private ioError(): DatabaseError {
    return new DatabaseError({ reason: "database-failed", file: this.file, message: `${this.file}: disk I/O error` })
  }
}
