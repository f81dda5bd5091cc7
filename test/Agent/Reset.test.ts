/** What `journal reset` does to a guard, which is a process of its own here (D10). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { guardDirectory } from "../../src/Agent/HostDriver.ts"
import { resetJournal } from "../../src/Agent/Reset.ts"
import { Guard } from "../../src/Layers/Host/Guard.ts"
import { launchGuardInSession } from "../../src/Layers/Host/GuardLaunch.ts"
import type { GuardOrder } from "../../src/Schema/GuardOrder.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { eventually } from "../support/fleet.ts"

const order: GuardOrder = {
  rolloutId: "stable@01",
  attempt: 1,
  forwardRun: 1,
  rollbackRun: 1,
  closure: "old",
  expected: ["new", "old"]
}

/** A state directory with a journal, and a guard beside it whose recovery notes that it ran, then does `more`. */
const guarded = Effect.fnUntraced(function*(windowMs: number, more = "") {
  const stateDir = yield* temporaryDirectory
  const notes = join(stateDir, "notes")
  writeFileSync(join(stateDir, "journal.db"), "a journal")
  const directory = guardDirectory({ stateDir })
  const context = yield* Effect.provide(Guard, Guard.layer(directory, launchGuardInSession))
  assert.isUndefined(yield* context.arm({ order, recovery: `echo back >>${notes}\n${more}`, windowMs }))
  return { stateDir, directory, guard: context, notes: () => existsSync(notes) ? readFileSync(notes, "utf8") : "" }
})

const reset = (stateDir: string) => Effect.result(resetJournal({ stateDir }, true))

describe("a journal that is reset", () => {
  it.live("takes with it the guard that was armed for its record: nothing goes back any more", () =>
    Effect.gen(function*() {
      const { directory, guard, notes, stateDir } = yield* guarded(2000)
      assert.strictEqual((yield* guard.state)._tag, "Armed")
      assert.isTrue(Result.isSuccess(yield* reset(stateDir)))
      assert.deepStrictEqual(yield* guard.state, { _tag: "None" })
      assert.isEmpty(readdirSync(directory))
      assert.isFalse(existsSync(join(stateDir, "journal.db")))
      yield* Effect.sleep(3500)
      assert.strictEqual(notes(), "")
    }))

  it.live("stays while a guard takes the host back, and who asked is told so; afterwards it goes, and what fired stays known", () =>
    Effect.gen(function*() {
      const { guard, notes, stateDir } = yield* guarded(1000, "sleep 2\n")
      yield* eventually("it goes back", () => notes() !== "", 10)
      const refused = yield* reset(stateDir)
      assert.match(
        Result.isFailure(refused) ? refused.failure.message : "",
        /takes this host back to old; nothing was changed/
      )
      assert.strictEqual(readFileSync(join(stateDir, "journal.db"), "utf8"), "a journal")
      const over = Effect.map(guard.state, (state) => state._tag === "Fired" && !state.acting)
      while (!(yield* over)) yield* Effect.sleep(100)
      assert.isTrue(Result.isSuccess(yield* reset(stateDir)))
      assert.strictEqual((yield* guard.state)._tag, "Fired", "the next agent tells it")
      assert.strictEqual(notes(), "back\n")
    }))
})
