/** The search itself, over toys: it finds what is there, by the shortest way, and what can never end. */
import { assert, describe, it } from "@effect/vitest"
import { type Model, search, told } from "./search.ts"

/** Two jugs, of 3 and of 5; to measure 4 takes six steps. */
interface Jugs {
  readonly small: { readonly has: number }
  readonly large: { readonly has: number }
}

const jugs = (fields: Partial<Model<Jugs>> = {}): Model<Jugs> => ({
  name: "jugs",
  initial: { small: { has: 0 }, large: { has: 0 } },
  bounds: {},
  rules: [
    { name: "fill the small one", kind: "step", on: ["small"], run: () => [{ to: { small: { has: 3 } } }] },
    { name: "fill the large one", kind: "step", on: ["large"], run: () => [{ to: { large: { has: 5 } } }] },
    { name: "empty the small one", kind: "step", on: ["small"], run: () => [{ to: { small: { has: 0 } } }] },
    { name: "empty the large one", kind: "step", on: ["large"], run: () => [{ to: { large: { has: 0 } } }] },
    {
      name: "pour",
      kind: "step",
      on: ["small", "large"],
      run: ({ large, small }) => {
        const [right, left] = [Math.min(small.has, 5 - large.has), Math.min(large.has, 3 - small.has)]
        return [
          { says: "right", to: { small: { has: small.has - right }, large: { has: large.has + right } } },
          { says: "left", to: { small: { has: small.has + left }, large: { has: large.has - left } } }
        ]
      }
    }
  ],
  invariants: [],
  endings: [],
  show: ({ large, small }) => `${small.has} and ${large.has}`,
  ...fields
})

describe("a search", () => {
  it("meets every state once", () => {
    const found = search(jugs())
    assert.deepStrictEqual([found.states, found.broken], [16, undefined])
  })

  it("tells a shortest history of what is broken, for people", () => {
    const { broken } = search(jugs({
      invariants: [{ name: "never-four", on: ["large"], holds: ({ large }) => large.has === 4 ? "it is 4" : undefined }]
    }))
    assert.strictEqual(
      broken === undefined ? undefined : told(broken),
      [
        "never-four is broken: it is 4",
        "  0  begins",
        "       0 and 0",
        "  1  fill the large one",
        "       0 and 5",
        "  2  pour: left",
        "       3 and 2",
        "  3  empty the small one",
        "       0 and 2",
        "  4  pour: left",
        "       2 and 0",
        "  5  fill the large one",
        "       2 and 5",
        "  6  pour: left",
        "       3 and 4"
      ].join("\n")
    )
  })

  it("judges steps, also those that lead to a state that is known", () => {
    const { broken } = search(jugs({
      invariants: [{
        name: "nothing-is-poured-away",
        on: ["small"],
        holdsOver: (before, after) => before.small.has > 0 && after.small.has === 0 ? "wet floor" : undefined
      }]
    }))
    assert.deepStrictEqual([broken?.invariant, broken?.history.length], ["nothing-is-poured-away", 3])
  })

  it("lets what costs happen as often as it may, and no more", () => {
    const bounded = (often: number) => {
      const [fill, ...others] = jugs().rules
      return search(jugs({ bounds: { water: often }, rules: [{ ...fill!, costs: "water" }, ...others.slice(1)] }))
        .broken
    }
    const largest = (often: number) => {
      const rules = jugs().rules.filter(({ name }) => name !== "fill the large one")
        .map((rule) => rule.name === "fill the small one" ? Object.assign({}, rule, { costs: "water" }) : rule)
      const invariants = [{
        name: "at-most-three",
        on: ["small", "large"] as const,
        holds: ({ large, small }: Jugs) => small.has + large.has > 3 ? "more" : undefined
      }]
      return search(jugs({ bounds: { water: often }, rules, invariants })).broken
    }
    assert.isUndefined(bounded(1))
    assert.isUndefined(largest(1))
    assert.strictEqual(largest(2)?.history.at(-1)?.did, "fill the small one")
  })

  it("finds the state from which there is no end any more, by what is allowed on the way", () => {
    const rules = jugs().rules.map((rule) =>
      rule.name === "fill the large one" ? Object.assign({}, rule, { kind: "good" as const }) : rule
    )
    const isEnd = ({ large }: Jugs) => large.has === 5
    const ends = (kinds: ReadonlyArray<"step" | "good">, more: Model<Jugs>["rules"] = []) =>
      search(jugs({ rules: [...rules, ...more], endings: [{ name: "ends", by: kinds, isEnd }] })).broken
    assert.isUndefined(ends(["step", "good"]))
    assert.isUndefined(ends(["step"]))
    const leak: Model<Jugs>["rules"][number] = {
      name: "the large one breaks",
      kind: "fault",
      costs: "jug",
      on: ["large"],
      run: () => [{ to: { large: { has: -1 } } }]
    }
    const guarded = rules.map((rule) =>
      Object.assign({}, rule, {
        run: (jug: Jugs) => "large" in jug && jug.large.has === -1 ? [] : rule.run(jug)
      })
    )
    const { broken } = search(jugs({
      bounds: { jug: 1 },
      rules: [...guarded, leak],
      endings: [{ name: "ends", by: ["step", "good"], isEnd }]
    }))
    assert.deepStrictEqual([broken?.invariant, broken?.history.at(-1)?.did], ["ends", "the large one breaks"])
  })
})
