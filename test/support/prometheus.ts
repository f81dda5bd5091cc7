/**
 * Reads a page of Prometheus text 0.0.4 by the rules of its format, and throws at the first that is broken. Written from those rules
 * and from nothing in `src`: what it takes, a scraper takes.
 */

export interface Sample {
  readonly name: string
  readonly labels: ReadonlyMap<string, string>
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: ReadonlyArray<Sample>
}

export interface Page {
  readonly families: ReadonlyMap<string, Family>
  /** The one value of a series; throws when there is none. */
  readonly value: (name: string, labels?: Readonly<Record<string, string>>) => number
}

const types = new Set(["counter", "gauge", "histogram", "summary", "untyped"])

function readLabels(text: string, line: string): ReadonlyMap<string, string> {
  const labels = new Map<string, string>()
  let rest = text
  while (rest !== "") {
    const match = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)/.exec(rest)
    if (match === null) throw new Error(`labels that cannot be read: ${line}`)
    const [whole, name = "", value = ""] = match
    if (labels.has(name)) throw new Error(`label ${name} stands twice: ${line}`)
    labels.set(name, value.replaceAll(/\\(.)/g, (_, escaped: string) => escaped === "n" ? "\n" : escaped))
    rest = rest.slice(whole.length)
  }
  return labels
}

function readNumber(text: string, line: string): number {
  if (text === "+Inf") return Number.POSITIVE_INFINITY
  if (!/^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/.test(text)) throw new Error(`a value that is no number: ${line}`)
  return Number(text)
}

/** The labels but `le`, as a key. */
const seriesOf = ({ labels }: Sample): string =>
  JSON.stringify([...labels].filter(([name]) => name !== "le").toSorted(([a], [b]) => a < b ? -1 : 1))

function checkHistogram({ name, samples }: Family): void {
  for (const [series, found] of Map.groupBy(samples, seriesOf)) {
    const of = (suffix: string) => found.filter((sample) => sample.name === `${name}${suffix}`)
    const buckets = of("_bucket").map(({ labels, value }) => ({
      le: readNumber(labels.get("le") ?? "", `${name} ${series}`),
      value
    }))
    const [[count], [sum]] = [of("_count"), of("_sum")]
    if (count === undefined || sum === undefined) throw new Error(`${name} ${series} has no count or no sum`)
    for (const [index, { le, value }] of buckets.entries()) {
      const before = buckets[index - 1]
      if (before !== undefined && (before.le >= le || before.value > value)) {
        throw new Error(`${name} ${series}: bucket ${le} is not cumulative`)
      }
    }
    const last = buckets.at(-1)
    if (last?.le !== Number.POSITIVE_INFINITY || last.value !== count.value) {
      throw new Error(`${name} ${series}: +Inf is not the count`)
    }
  }
}

function checkFamily(family: Family): void {
  const { help, name, samples, type } = family
  if (help.trim() === "") throw new Error(`${name} has no help`)
  if (samples.length === 0) throw new Error(`${name} has no sample`)
  const seen = new Set<string>()
  for (const sample of samples) {
    const key = `${sample.name} ${seriesOf(sample)} ${sample.labels.get("le") ?? ""}`
    if (seen.has(key)) throw new Error(`${key} stands twice`)
    seen.add(key)
    if (type !== "histogram" && sample.labels.has("le")) throw new Error(`${name} is no histogram and has le`)
    if (type === "counter" && !(sample.value >= 0 && name.endsWith("_total"))) throw new Error(`${name} is no counter`)
  }
  if (type === "histogram") checkHistogram(family)
}

export function readPage(text: string): Page {
  if (!text.endsWith("\n")) throw new Error("the last line does not end")
  const families = new Map<string, { name: string; type: string; help: string; samples: Array<Sample> }>()
  let current: { name: string; type: string; help: string; samples: Array<Sample> } | undefined
  for (const line of text.slice(0, -1).split("\n")) {
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line)
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) ([a-z]+)$/.exec(line)
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (help !== null) {
      const name = help[1] ?? ""
      if (families.has(name)) throw new Error(`HELP of ${name} stands twice, or its samples are apart`)
      current = { name, help: help[2] ?? "", type: "", samples: [] }
      families.set(name, current)
    } else if (type !== null) {
      if (current === undefined || current.name !== type[1] || current.type !== "" || !types.has(type[2] ?? "")) {
        throw new Error(`TYPE out of place: ${line}`)
      }
      current.type = type[2] ?? ""
    } else if (sample !== null) {
      const name = sample[1] ?? ""
      const own = current?.type === "histogram"
        ? [`${current.name}_bucket`, `${current.name}_sum`, `${current.name}_count`]
        : [current?.name]
      if (current === undefined || current.type === "" || !own.includes(name)) {
        throw new Error(`a sample out of place: ${line}`)
      }
      current.samples.push({
        name,
        labels: readLabels(sample[2] ?? "", line),
        value: readNumber(sample[3] ?? "", line)
      })
    } else throw new Error(`a line that is none: ${line}`)
  }
  for (const family of families.values()) checkFamily(family)
  return {
    families,
    value: (name, labels = {}) => {
      const wanted = JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => a < b ? -1 : 1))
      const found = [...families.values()].flatMap(({ samples }) => samples)
        .filter((one) =>
          one.name === name && JSON.stringify([...one.labels].toSorted(([a], [b]) => a < b ? -1 : 1)) === wanted
        )
      if (found.length !== 1) throw new Error(`${found.length} series ${name} ${wanted}`)
      return found[0]?.value ?? Number.NaN
    }
  }
}

/** Label names of a page. */
export const labelNames = ({ families }: Page): ReadonlySet<string> =>
  new Set([...families.values()].flatMap(({ samples }) => samples.flatMap(({ labels }) => [...labels.keys()])))

export const seriesCount = ({ families }: Page): number =>
  [...families.values()].reduce((count, { samples }) => count + samples.length, 0)
