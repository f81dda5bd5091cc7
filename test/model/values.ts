/**
 * Values that never change: which are equal, whatever the order in which their fields, maps and sets were filled, and what they
 * become when numbers or names in them are others.
 */
import { HashMap, HashSet } from "effect"

/** For people. */
export function textOf(value: unknown): string {
  return shallowText(value, textOf)
}

/** One level of a value, where `inner` stands for what is in it. */
function shallowText(value: unknown, inner: (value: unknown) => string): string {
  if (typeof value !== "object" || value === null) return value === undefined ? "-" : JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(inner).join()}]`
  if (HashMap.isHashMap(value)) return entriesText([...HashMap.entries(value)], inner)
  if (value instanceof Map) return entriesText([...value], inner)
  if (HashSet.isHashSet(value) || value instanceof Set) return `<${[...value].map(inner).toSorted().join()}>`
  return entriesText(Object.entries(value), inner)
}

const entriesText = (entries: ReadonlyArray<readonly [unknown, unknown]>, inner: (value: unknown) => string): string =>
  `{${
    entries.filter(([, value]) => value !== undefined).map(([key, value]) => `${inner(key)}:${inner(value)}`)
      .toSorted().join()
  }}`

const numbers = new Map<string, number>()
const firsts: Array<object> = []
/** Most of a new value is an old one's. */
const known = new WeakMap<object, number>()

/** Equal values have the same number, and others another. What a value is made of stands for it, by numbers: each is met once. */
export function numberOf(value: object): number {
  const before = known.get(value)
  if (before !== undefined) return before
  const text = shallowText(value, numberText)
  let number = numbers.get(text)
  if (number === undefined) {
    number = firsts.push(value) - 1
    numbers.set(text, number)
  }
  known.set(value, number)
  return number
}

const numberText = (value: unknown): string =>
  typeof value === "object" && value !== null ? `#${numberOf(value)}` : shallowText(value, numberText)

/** The first of all equal values. */
export function same<A extends object>(value: A): A
export function same(value: object): object {
  return firsts[numberOf(value)] ?? value
}

/** What is to be changed in values. */
export interface Changes {
  readonly number?: (number: number) => number
  /** Of texts, and of what is filed under them. */
  readonly text?: (text: string) => string
}

/** Gives changed values, and the very value where nothing changes; of each value this is asked once. */
export function changing({ number: ofNumber = keep, text: ofText = keep }: Changes): <A>(value: A) => A {
  const done = new WeakMap<object, object>()
  function changed<A>(value: A): A
  function changed(value: unknown): unknown {
    if (typeof value === "number") return ofNumber(value)
    if (typeof value === "string") return ofText(value)
    if (typeof value !== "object" || value === null) return value
    const before = done.get(value)
    if (before !== undefined) return before
    const result = inner(value)
    done.set(value, result)
    return result
  }
  const items = <A>(all: ReadonlyArray<A>, rebuilt: (items: ReadonlyArray<A>) => object, value: object): object => {
    const after = all.map((item) => changed(item))
    return after.every((item, index) => item === all[index]) ? value : rebuilt(after)
  }
  const entries = (
    all: ReadonlyArray<readonly [string, unknown]>,
    rebuilt: (entries: ReadonlyArray<readonly [string, unknown]>) => object,
    value: object
  ): object => {
    const after = all.map(([key, item]) => [ofText(key), changed(item)] as const)
    return after.every(([key, item], index) => key === all[index]![0] && item === all[index]![1])
      ? value
      : rebuilt(after)
  }
  function inner(value: object): object {
    if (Array.isArray(value)) return items(value, (after) => after, value)
    if (HashSet.isHashSet(value)) return items([...value], HashSet.fromIterable, value)
    if (value instanceof Set) return items([...value], (after) => new Set(after), value)
    if (HashMap.isHashMap(value)) {
      return entries([...HashMap.entries(value)] as Array<[string, unknown]>, HashMap.fromIterable, value)
    }
    if (value instanceof Map) return entries([...value], (after) => new Map(after), value)
    return entries(Object.entries(value), Object.fromEntries, value)
  }
  return changed
}

const keep = <A>(value: A): A => value
