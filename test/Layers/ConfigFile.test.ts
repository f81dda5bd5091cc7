import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { readConfigFile } from "../../src/Layers/ConfigFile.ts"
import { temporaryDirectory } from "../support/directories.ts"

const read = Effect.fnUntraced(function*(text: string) {
  const file = join(yield* temporaryDirectory, "config.json")
  writeFileSync(file, text)
  return yield* readConfigFile(file)
})

describe("a configuration file", () => {
  it.effect("is read as JSON", () =>
    Effect.gen(function*() {
      const found = yield* read(`{"machineId": "edge-07"}`)
      assert(found._tag === "Read")
      assert.deepStrictEqual(found.value, { machineId: "edge-07" })
    }))

  for (
    const [title, text, message] of [
      ["truncated", "{\"machineId\": \"a", "is not valid JSON"],
      ["empty", "", "is not valid JSON"],
      ["not UTF-8", "\ufeff{}", "a byte order mark"],
      ["followed by something", "{} {}", "is not valid JSON"],
      ["ambiguous because a key stands twice", "{\"machineId\": \"a\", \"machineId\": \"b\"}", "\"machineId\" twice"],
      ["nested too deeply", "[".repeat(200) + "]".repeat(200), "nesting"]
    ] as const
  ) {
    it.effect(`that is ${title} is refused by name`, () =>
      Effect.gen(function*() {
        const found = yield* read(text)
        assert(found._tag === "Unreadable")
        assert.include(found.message, message)
      }))
  }

  it.effect("that is missing is refused by name", () =>
    Effect.gen(function*() {
      const found = yield* readConfigFile("/nonexistent/agent.json")
      assert(found._tag === "Unreadable")
      assert.include(found.message, "cannot be read: ENOENT")
    }))
})
