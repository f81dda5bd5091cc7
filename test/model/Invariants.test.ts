/** `docs/invariants.md` and the code name the same invariants, and each of them was seen to break. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { explored, modelOf } from "./models.ts"

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")
const document = read("docs/invariants.md")

const { endings, invariants } = modelOf(explored.wipe[0]!)
const checked = [...new Set([...invariants, ...endings].map(({ name }) => name))]

describe("the document of the invariants", () => {
  it("names each that is checked, and no other", () => {
    const named = [...document.matchAll(/^### `([a-z-]+)`$/gm)].map(([, name = ""]) => name)
    assert.sameMembers(named, checked)
  })

  it("says what each means", () => {
    for (const [, name, meaning] of document.matchAll(/^### `([a-z-]+)`\n(.*)$/gm)) {
      assert.match(meaning ?? "", /\.$/, name)
    }
  })

  it("names the tests that there are", () => {
    for (const [, file] of document.matchAll(/`(test\/model\/[A-Za-z]+\.test\.ts)`/g)) {
      assert.isNotEmpty(read(file ?? ""))
    }
    for (const [, file] of document.matchAll(/^\| `([A-Za-z]+\.test\.ts)`/gm)) {
      assert.isNotEmpty(read(`test/model/${file}`))
    }
  })

  it("promises no invariant that nothing can break", () => {
    const mutations = read("test/model/Mutations.test.ts")
    for (const name of checked) assert.include(mutations, `"${name}"`, name)
  })
})
