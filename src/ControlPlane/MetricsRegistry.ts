/**
 * Families of metrics over Effect's `Metric`, in a registry of their own: two control planes in one process count apart, and
 * what a scrape reads from the state leaves nothing behind when a channel is gone. Series are made once and kept, so that
 * counting is a look-up and an addition.
 */
import { Context, Metric } from "effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"

/** Text of a page in the format of Prometheus 0.0.4. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

/** Values of labels: few, and never a host, a closure, a rollout or free text. */
export type Labels = Readonly<Record<string, string>>

export class Registry {
  readonly #context = Context.make(Metric.MetricRegistry, new Map())

  /** A value that goes up and down, as it is now. */
  gauge(name: string, description: string, value: number, labels: Labels = {}): void {
    Metric.gauge(name, { description, attributes: labels }).updateUnsafe(value, this.#context)
  }

  /** A total that something else has counted. */
  total(name: string, description: string, value: number, labels: Labels = {}): void {
    Metric.counter(name, { description, attributes: labels, incremental: true }).updateUnsafe(value, this.#context)
  }

  /** Counts from 0. */
  counter(name: string, description: string): () => void {
    const counter = Metric.counter(name, { description, incremental: true })
    counter.updateUnsafe(0, this.#context)
    return () => counter.updateUnsafe(1, this.#context)
  }

  /** One counter for each value of a label. `values` are there from the start, as 0; others come with their first count. */
  counters<Value extends string>(
    name: string,
    description: string,
    label: string,
    values: ReadonlyArray<Value>
  ): (value: Value) => void {
    const series = new Map<Value, Metric.Counter<number>>()
    const seriesOf = (value: Value): Metric.Counter<number> => {
      const known = series.get(value)
      if (known !== undefined) return known
      const made = Metric.counter(name, { description, attributes: { [label]: value }, incremental: true })
      series.set(value, made)
      return made
    }
    for (const value of values) seriesOf(value).updateUnsafe(0, this.#context)
    return (value) => seriesOf(value).updateUnsafe(1, this.#context)
  }

  /** `boundaries`: upper bounds, each included, ascending. */
  histogram(name: string, description: string, boundaries: ReadonlyArray<number>): (value: number) => void {
    const histogram = Metric.histogram(name, { description, boundaries })
    histogram.valueUnsafe(this.#context)
    return (value) => histogram.updateUnsafe(value, this.#context)
  }

  get text(): string {
    return PrometheusMetrics.formatUnsafe(this.#context)
  }
}
