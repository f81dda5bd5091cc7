/**
 * Finds what would wait for itself. Waves, edges between hosts and edges between channels all say "after"; each alone may
 * be free of circles and together they may still form one, so all of them make one graph. Pure.
 *
 * A node is written as a person would say it; the circle that is found is the message.
 */
import type { FleetResolved } from "../Schema/Artifacts.ts"

/** What must come before a node. */
type Graph = Map<string, Set<string>>

const host = (name: string) => `host ${name}`
const wave = (channel: string, index: number) => `wave ${index + 1} of ${channel}`
const channelEnd = (channel: string) => `channel ${channel}`

function waitsFor(graph: Graph, node: string, before: string): void {
  const known = graph.get(node)
  if (known === undefined) graph.set(node, new Set([before]))
  else known.add(before)
}

function buildGraph(fleet: FleetResolved): Graph {
  const graph: Graph = new Map()
  // First, so that a circle of channels is told as one of channels and not of their hosts.
  for (const edge of fleet.channelEdges) waitsFor(graph, channelEnd(edge.gated), channelEnd(edge.gates))
  for (const [channel, waves] of Object.entries(fleet.waves)) {
    const gates = fleet.channelEdges.filter((edge) => edge.gated === channel)
    for (const [index, { hosts }] of waves.entries()) {
      for (const name of hosts) {
        waitsFor(graph, wave(channel, index), host(name))
        for (const edge of gates) waitsFor(graph, host(name), channelEnd(edge.gates))
        if (index > 0) waitsFor(graph, host(name), wave(channel, index - 1))
      }
      if (index > 0) waitsFor(graph, wave(channel, index), wave(channel, index - 1))
      waitsFor(graph, channelEnd(channel), wave(channel, index))
    }
  }
  for (const edge of fleet.edges) waitsFor(graph, host(edge.gated), host(edge.gates))
  return graph
}

/**
 * One circle, as its nodes in order, the first again at the end: each waits for the next. `undefined` when there is none.
 * Walks with a stack of its own: a chain of ten thousand hosts must not end the process.
 */
export function findCircle(fleet: FleetResolved): ReadonlyArray<string> | undefined {
  const graph = buildGraph(fleet)
  const done = new Set<string>()
  for (const start of [...graph.keys()].toSorted()) {
    const path: Array<{ readonly node: string; readonly rest: Iterator<string> }> = []
    const onPath = new Set<string>()
    const enter = (node: string): void => {
      onPath.add(node)
      path.push({ node, rest: (graph.get(node) ?? new Set<string>()).values() })
    }
    if (!done.has(start)) enter(start)
    while (path.length > 0) {
      const { node, rest } = path.at(-1)!
      const next = rest.next()
      if (next.done === true) {
        done.add(node)
        onPath.delete(node)
        path.pop()
      } else if (onPath.has(next.value)) {
        const nodes = path.map((step) => step.node)
        return [...nodes.slice(nodes.indexOf(next.value)), next.value]
      } else if (!done.has(next.value)) {
        enter(next.value)
      }
    }
  }
  return undefined
}
