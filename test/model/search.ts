/**
 * An explicit-state search: every state that a model can reach, breadth first, each once.
 *
 * A state is made of named parts. Each distinct value of a part is kept once and has a number, so that a state is a row of a
 * few numbers, states are told apart exactly, and millions of them fit into memory. A rule names the parts that it looks at: one
 * of a single part is asked once for each of its values, however many states share it, and the others ask through `once`. So
 * rules must be pure, as what they drive is.
 *
 * Breadth first makes the first history that breaks an invariant a shortest one. Owns no model: those stand beside this file.
 */
import { numberOf } from "./values.ts"

/**
 * `fault`: something breaks; bounded. `good` and `bad`: what the world outside decides, e.g. how a switch ends. `step`: what
 * the programs do by themselves, sooner or later.
 */
export type Kind = "step" | "good" | "bad" | "fault"

export interface Outcome<S> {
  /** Added to the rule's name in a history. */
  readonly says?: string
  /** The parts that change. */
  readonly to: Partial<S>
}

export interface Rule<S> {
  readonly name: string
  readonly kind: Kind
  /** A bound of the model that each use takes one of. */
  readonly costs?: string
  readonly on: ReadonlyArray<keyof S & string>
  /** No outcome: the rule is not enabled. Is given only the parts that `on` names. */
  readonly run: (parts: S) => ReadonlyArray<Outcome<S>>
}

/** What must hold, as a sentence about what is wrong; `undefined` when nothing is. */
export type Invariant<S> =
  | {
    readonly name: string
    readonly on: ReadonlyArray<keyof S & string>
    readonly holds: (parts: S) => string | undefined
  }
  /** Of every step of a rule that looks at these parts at least. */
  | {
    readonly name: string
    readonly on: ReadonlyArray<keyof S & string>
    readonly holdsOver: (before: S, after: S, rule: string) => string | undefined
  }

/** `S`: parts by name, each an object that never changes. */
export interface Model<S> {
  readonly name: string
  readonly initial: S
  /** How often what costs something may happen in one history. */
  readonly bounds: Readonly<Record<string, number>>
  readonly rules: ReadonlyArray<Rule<S>>
  readonly invariants: ReadonlyArray<Invariant<S>>
  /**
   * From every state an end must be reachable by steps of these kinds alone. Rules are fair (what can happen again and again
   * happens at last), and then, since the states are finite, an end is reached.
   */
  readonly endings: ReadonlyArray<{
    readonly name: string
    readonly by: ReadonlyArray<Kind>
    readonly isEnd: (state: S) => boolean
  }>
  /** A state in a line, for histories. */
  readonly show: (state: S) => string
}

export interface Broken {
  readonly invariant: string
  readonly because: string
  /** A shortest one: what happened, and the state that it led to. */
  readonly history: ReadonlyArray<{ readonly did: string; readonly state: string }>
}

export interface Found {
  readonly states: number
  readonly transitions: number
  /** Longest of the shortest histories. */
  readonly depth: number
  /** How often each rule was used; a rule that was never is one that the model cannot reach. */
  readonly used: ReadonlyMap<string, number>
  readonly broken?: Broken
}

/** The search gives up beyond so many states: a model without a bound is a mistake. */
const mostStates = 40_000_000

/** Numbers in a typed array that grows. */
class Growing {
  #items = new Uint32Array(1 << 16)
  length = 0

  push(item: number): void {
    if (this.length === this.#items.length) {
      const larger = new Uint32Array(this.length * 2)
      larger.set(this.#items)
      this.#items = larger
    }
    this.#items[this.length++] = item
  }

  at(index: number): number {
    return this.#items[index]!
  }
}

/** Distinct values of one part, numbered one after the other. */
class Values {
  readonly #numbers = new Map<number, number>()
  readonly #values: Array<unknown> = []

  numberOf(value: object): number {
    const known = numberOf(value)
    const number = this.#numbers.get(known) ?? this.#values.push(value) - 1
    this.#numbers.set(known, number)
    return number
  }

  at(number: number): unknown {
    return this.#values[number]
  }
}

/** Distinct rows of equal width, numbered in the order in which they were met. */
class Rows {
  readonly #items = new Growing()
  readonly #width: number
  #slots = new Int32Array(1 << 16).fill(-1)
  length = 0

  constructor(width: number) {
    this.#width = width
  }

  /** The row's number; `length` before the call when it is new. */
  numberOf(row: ReadonlyArray<number>): number {
    if (this.length * 2 > this.#slots.length) this.#rehash()
    const mask = this.#slots.length - 1
    for (let slot = hashOf(row) & mask;; slot = (slot + 1) & mask) {
      const found = this.#slots[slot]!
      if (found !== -1) {
        if (this.#equals(found, row)) return found
        continue
      }
      this.#slots[slot] = this.length
      for (const item of row) this.#items.push(item)
      return this.length++
    }
  }

  at(number: number): Array<number> {
    return Array.from({ length: this.#width }, (_, column) => this.#items.at(number * this.#width + column))
  }

  #equals(number: number, row: ReadonlyArray<number>): boolean {
    for (let column = 0; column < this.#width; column++) {
      if (this.#items.at(number * this.#width + column) !== row[column]) return false
    }
    return true
  }

  #rehash(): void {
    this.#slots = new Int32Array(this.#slots.length * 4).fill(-1)
    const mask = this.#slots.length - 1
    for (let number = 0; number < this.length; number++) {
      let slot = hashOf(this.at(number)) & mask
      while (this.#slots[slot] !== -1) slot = (slot + 1) & mask
      this.#slots[slot] = number
    }
  }
}

/** FNV-1a over whole numbers, with a last stir: only where a row is looked for first, never whether it is known. */
function hashOf(row: ReadonlyArray<number>): number {
  let hash = 0x811c9dc5
  for (const item of row) hash = Math.imul(hash ^ item, 0x01000193)
  hash ^= hash >>> 15
  return Math.imul(hash, 0x2c1b3c6d) >>> 8
}

/** One outcome of a rule for one combination of values: which columns become what. */
interface Move {
  readonly label: number
  readonly columns: ReadonlyArray<number>
  readonly values: ReadonlyArray<number>
  readonly broken?: { readonly invariant: string; readonly because: string }
}

/**
 * What is asked of the values in some columns: once for each, where there is one column; of two, once for each pair, where the
 * state has more to it than those. Of what is left hardly any combination is met twice.
 */
class Asked<A> {
  readonly #columns: ReadonlyArray<number>
  readonly #isKept: boolean
  readonly #ask: (row: ReadonlyArray<number>) => A
  readonly #answers = new Map<number, A>()

  constructor(columns: ReadonlyArray<number>, ofAll: number, ask: (row: ReadonlyArray<number>) => A) {
    this.#columns = columns
    this.#isKept = columns.length === 1 || (columns.length === 2 && ofAll > 3)
    this.#ask = ask
  }

  of(row: ReadonlyArray<number>): A {
    if (!this.#isKept) return this.#ask(row)
    const [first = 0, second] = this.#columns
    // Exact up to 2^26 values of each.
    const key = row[first]! + (second === undefined ? 0 : row[second]! * 2 ** 26)
    const known = this.#answers.get(key)
    if (known !== undefined) return known
    const answer = this.#ask(row)
    this.#answers.set(key, answer)
    return answer
  }
}

function objectOf(part: unknown): object {
  if (typeof part !== "object" || part === null) {
    throw new TypeError(`a part of a state is an object, not ${String(part)}`)
  }
  return part
}

const fine = "" as const

export function search<S extends object>(model: Model<S>): Found {
  return new Search(model).run()
}

class Search<S extends object> {
  readonly #model: Model<S>
  readonly #names: ReadonlyArray<keyof S & string>
  readonly #parts: ReadonlyArray<Values>
  /** What is left of each bound has a column of its own behind the parts. */
  readonly #bounds: ReadonlyArray<string>
  readonly #rows: Rows
  /** How each state was first reached. */
  readonly #from = new Growing()
  readonly #by = new Growing()
  readonly #labels = new Map<string, number>()
  /** Transitions that no fault causes, by source in ascending order: where a source's begin, where they lead, by what. */
  readonly #begin = new Growing()
  readonly #leads = new Growing()
  readonly #kinds = new Growing()
  readonly #used = new Map<string, number>()

  constructor(model: Model<S>) {
    this.#model = model
    this.#names = Object.keys(model.initial) as Array<keyof S & string>
    this.#parts = this.#names.map(() => new Values())
    this.#bounds = Object.keys(model.bounds)
    this.#rows = new Rows(this.#names.length + this.#bounds.length)
  }

  run(): Found {
    const { bounds, initial, invariants, rules } = this.#model
    const guards = invariants.flatMap((one) => "holds" in one ? [this.#guard(one.name, one.on, one.holds)] : [])
    const enabled = rules.map((rule) => ({
      rule,
      bound: rule.costs === undefined ? -1 : this.#boundOf(rule.costs),
      moves: new Asked(
        rule.on.map((name) => this.#names.indexOf(name)),
        this.#names.length,
        (row) => this.#movesOf(rule, row)
      )
    }))
    const first = [
      ...this.#names.map((name, column) => this.#parts[column]!.numberOf(objectOf(initial[name]))),
      ...this.#bounds.map((name) => bounds[name] ?? 0)
    ]
    this.#rows.numberOf(first)
    this.#from.push(0)
    this.#by.push(0)
    let transitions = 0
    const found = (broken?: Broken): Found => ({
      states: this.#rows.length,
      transitions,
      depth: this.#history(this.#rows.length - 1).length - 1,
      used: this.#used,
      ...(broken === undefined ? {} : { broken })
    })
    for (const guard of guards) {
      const because = guard.asked.of(first)
      if (because !== fine) return found({ invariant: guard.name, because, history: this.#history(0) })
    }
    for (let source = 0; source < this.#rows.length; source++) {
      const row = this.#rows.at(source)
      this.#begin.push(this.#leads.length)
      for (const { bound, moves, rule } of enabled) {
        if (bound !== -1 && row[bound] === 0) continue
        for (const move of moves.of(row)) {
          transitions += 1
          const next = row.slice()
          move.columns.forEach((column, index) => next[column] = move.values[index]!)
          if (bound !== -1) next[bound]! -= 1
          const before = this.#rows.length
          const target = this.#rows.numberOf(next)
          if (target === before) {
            if (before >= mostStates) throw new Error(`${this.#model.name} has more than ${mostStates} states`)
            this.#from.push(source)
            this.#by.push(move.label)
          }
          if (move.broken !== undefined) {
            return found({ ...move.broken, history: [...this.#history(source), this.#line(move.label, next)] })
          }
          if (rule.kind !== "fault" && target !== source) {
            this.#leads.push(target)
            this.#kinds.push(kinds.indexOf(rule.kind))
          }
          if (target !== before) continue
          for (const guard of guards) {
            const because = guard.asked.of(next)
            if (because !== fine) return found({ invariant: guard.name, because, history: this.#history(target) })
          }
        }
      }
    }
    this.#begin.push(this.#leads.length)
    return found(this.#endless())
  }

  #boundOf(name: string): number {
    const index = this.#bounds.indexOf(name)
    if (index === -1) throw new Error(`${this.#model.name} has no bound ${name}`)
    return this.#names.length + index
  }

  #guard(name: string, on: ReadonlyArray<keyof S & string>, holds: (parts: S) => string | undefined) {
    const columns = on.map((part) => this.#names.indexOf(part))
    return { name, asked: new Asked(columns, this.#names.length, (row) => holds(this.#partsOf(row, on)) ?? fine) }
  }

  #partsOf(row: ReadonlyArray<number>, on: ReadonlyArray<keyof S & string>): S {
    return Object.fromEntries(
      on.map((name) => {
        const column = this.#names.indexOf(name)
        return [name, this.#parts[column]!.at(row[column]!)]
      })
    ) as S
  }

  #movesOf(rule: Rule<S>, row: ReadonlyArray<number>): ReadonlyArray<Move> {
    const before = this.#partsOf(row, rule.on)
    return rule.run(before).map((outcome) => this.#moveOf(rule, before, outcome))
  }

  #moveOf(rule: Rule<S>, before: S, { says, to }: Outcome<S>): Move {
    const label = says === undefined ? rule.name : `${rule.name}: ${says}`
    this.#used.set(label, (this.#used.get(label) ?? 0) + 1)
    const changed = Object.keys(to) as Array<keyof S & string>
    const values = changed.map((name) => this.#parts[this.#names.indexOf(name)]!.numberOf(objectOf(to[name])))
    const broken = this.#brokenBy(rule, before, { ...before, ...to })
    return {
      label: this.#labelOf(label),
      columns: changed.map((name) => this.#names.indexOf(name)),
      values,
      ...(broken === undefined ? {} : { broken })
    }
  }

  #brokenBy({ name, on }: Rule<S>, before: S, after: S): Move["broken"] {
    for (const invariant of this.#model.invariants) {
      if (!("holdsOver" in invariant) || !invariant.on.every((part) => on.includes(part))) continue
      const because = invariant.holdsOver(before, after, name)
      if (because !== undefined) return { invariant: invariant.name, because }
    }
    return undefined
  }

  #labelOf(text: string): number {
    const number = this.#labels.get(text) ?? this.#labels.size
    this.#labels.set(text, number)
    return number
  }

  #line(label: number, row: ReadonlyArray<number>): Broken["history"][number] {
    return { did: [...this.#labels.keys()][label] ?? "", state: this.#model.show(this.#partsOf(row, this.#names)) }
  }

  #history(state: number): Array<Broken["history"][number]> {
    const lines: Array<Broken["history"][number]> = []
    for (let at = state; at !== 0; at = this.#from.at(at)) lines.unshift(this.#line(this.#by.at(at), this.#rows.at(at)))
    return [{ did: "begins", state: this.#model.show(this.#partsOf(this.#rows.at(0), this.#names)) }, ...lines]
  }

  /** The first state, in the order of histories, from which no end can be reached. */
  #endless(): Broken | undefined {
    for (const { by, isEnd, name } of this.#model.endings) {
      const stuck = this.#stuck(new Set(by.map((kind) => kinds.indexOf(kind))), isEnd)
      if (stuck !== undefined) {
        const because = `no end can be reached any more by ${by.join(", ")}`
        return { invariant: name, because, history: this.#history(stuck) }
      }
    }
    return undefined
  }

  /** Backwards from the ends, over the transitions turned round. */
  #stuck(by: ReadonlySet<number>, isEnd: (state: S) => boolean): number | undefined {
    const count = this.#rows.length
    const entering = new Uint32Array(count + 1)
    const each = (visit: (source: number, target: number) => void) => {
      for (let source = 0; source < count; source++) {
        for (let edge = this.#begin.at(source); edge < this.#begin.at(source + 1); edge++) {
          if (by.has(this.#kinds.at(edge))) visit(source, this.#leads.at(edge))
        }
      }
    }
    each((_, target) => entering[target + 1]! += 1)
    for (let state = 0; state < count; state++) entering[state + 1]! += entering[state]!
    const sources = new Uint32Array(entering[count]!)
    const filled = entering.slice(0, count)
    each((source, target) => sources[filled[target]!++] = source)
    const reaches = new Uint8Array(count)
    const queue = new Growing()
    const reach = (state: number) => {
      if (reaches[state] === 1) return
      reaches[state] = 1
      queue.push(state)
    }
    const ends = new Asked(
      this.#names.map((_, column) => column),
      this.#names.length,
      (row) => isEnd(this.#partsOf(row, this.#names))
    )
    for (let state = 0; state < count; state++) if (ends.of(this.#rows.at(state))) reach(state)
    for (let next = 0; next < queue.length; next++) {
      const state = queue.at(next)
      for (let edge = entering[state]!; edge < entering[state + 1]!; edge++) reach(sources[edge]!)
    }
    const stuck = reaches.indexOf(0)
    return stuck === -1 ? undefined : stuck
  }
}

const kinds: ReadonlyArray<Kind> = ["step", "good", "bad", "fault"]

/** For a person: the invariant, what is wrong, and how it came to that. */
export function told({ because, history, invariant }: Broken): string {
  const lines = history.map(({ did, state }, index) => `${String(index).padStart(3)}  ${did}\n       ${state}`)
  return [`${invariant} is broken: ${because}`, ...lines].join("\n")
}
