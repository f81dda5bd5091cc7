/** One text for each value, whatever the order in which its fields, maps and sets were filled. Values never change. */
import { HashMap, HashSet } from "effect"

/** Most of a new state is the old one's. */
const known = new WeakMap<object, string>()

export function textOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return value === undefined ? "-" : JSON.stringify(value)
  const before = known.get(value)
  if (before !== undefined) return before
  const text = textOfObject(value)
  known.set(value, text)
  return text
}

function textOfObject(value: object): string {
  if (Array.isArray(value)) return `[${value.map(textOf).join()}]`
  if (HashMap.isHashMap(value)) return entriesText([...HashMap.entries(value)])
  if (value instanceof Map) return entriesText([...value])
  if (HashSet.isHashSet(value) || value instanceof Set) return `<${[...value].map(textOf).toSorted().join()}>`
  return entriesText(Object.entries(value))
}

const entriesText = (entries: ReadonlyArray<readonly [unknown, unknown]>): string =>
  `{${
    entries.filter(([, value]) => value !== undefined).map(([key, value]) => `${textOf(key)}:${textOf(value)}`)
      .toSorted().join()
  }}`

/** Gives values with other numbers, and the very value where none changes; of each value this is asked once. */
export function numbersMapped(change: (number: number) => number): <A>(value: A) => A {
  const done = new WeakMap<object, object>()
  function mapped<A>(value: A): A
  function mapped(value: unknown): unknown {
    if (typeof value === "number") return change(value)
    if (typeof value !== "object" || value === null || HashSet.isHashSet(value) || value instanceof Set) return value
    const before = done.get(value)
    if (before !== undefined) return before
    const result = inner(value)
    done.set(value, result).set(result, result)
    return result
  }
  function inner(value: object): object {
    if (Array.isArray(value)) {
      const items = value.map((item) => mapped(item))
      return items.every((item, index) => item === value[index]) ? value : items
    }
    if (HashMap.isHashMap(value)) {
      return [...HashMap.entries(value)].reduce((map, [key, item]) => {
        const next = mapped(item)
        return next === item ? map : HashMap.set(map, key, next)
      }, value)
    }
    const entries = Object.entries(value)
    const items = entries.map(([key, item]) => [key, mapped(item)] as const)
    return items.every(([, item], index) => item === entries[index]![1]) ? value : Object.fromEntries(items)
  }
  return mapped
}
