/** The floors of docs/architecture.md, checked on the imports themselves and on what the bundler put into the agent. */
import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"

const root = resolve(import.meta.dirname, "..")

/** Room → floor; the longest matching path decides. */
const floors: ReadonlyArray<readonly [string, number]> = [
  ["src/Schema/", 0],
  ["src/Rollout/", 1],
  ["src/Trust/", 1],
  ["src/Layers/", 2],
  ["src/Reducer.ts", 3],
  ["src/Agent/", 4],
  ["src/ControlPlane/", 4],
  ["src/Workers/", 5],
  ["src/Agent/Program.ts", 6],
  ["src/ControlPlane/Program.ts", 6],
  ["src/Simulation/", 7],
  ["src/Operator/", 8],
  ["src/Agent/CommandTree.ts", 9],
  ["src/ControlPlane/CommandTree.ts", 9],
  ["src/Main.ts", 9],
  ["src/ControlPlane/Main.ts", 9],
  ["src/Operator/Main.ts", 9]
]

function floorOf(file: string): number {
  const [room] = floors.filter(([path]) => file.startsWith(path)).toSorted(([a], [b]) => b.length - a.length)
  assert.isDefined(room, `${file} stands in no room`)
  return room[1]
}

const importPattern = /^\s*(?:import|export)\s[^"]*?from\s+"(\.[^"]+)"|^import\s+"(\.[^"]+)"/gm

/** Every source file with the sources it imports, types included. */
const imports = new Map(
  globSync("src/**/*.ts", { cwd: root }).toSorted().map((file) => {
    const text = readFileSync(join(root, file), "utf8")
    return [
      file,
      [...text.matchAll(importPattern)].map((match) =>
        relative(root, resolve(root, dirname(file), match[1] ?? match[2] ?? ""))
      )
    ] as const
  })
)

describe("the house", () => {
  it("no file names a higher floor", () => {
    const upward = [...imports].flatMap(([file, targets]) =>
      targets.filter((target) => floorOf(target) > floorOf(file)).map((target) => `${file} → ${target}`)
    )
    assert.deepStrictEqual(upward, [])
  })

  it("agent and control plane do not name each other", () => {
    const across = [...imports].flatMap(([file, targets]) =>
      targets.filter((target) =>
        /^src\/(?:Workers\/)?Agent\//.test(file) && /^src\/(?:Workers\/)?ControlPlane\//.test(target) ||
        /^src\/(?:Workers\/)?ControlPlane\//.test(file) && /^src\/(?:Workers\/)?Agent\//.test(target)
      ).map((target) => `${file} → ${target}`)
    )
    assert.deepStrictEqual(across, [])
  })

  it("there is no circle", () => {
    const done = new Set<string>()
    const visit = (file: string, path: ReadonlyArray<string>): void => {
      assert.notInclude(path, file, `circle: ${[...path, file].join(" → ")}`)
      if (done.has(file)) return
      for (const target of imports.get(file) ?? []) visit(target, [...path, file])
      done.add(file)
    }
    for (const file of imports.keys()) visit(file, [])
    assert.strictEqual(done.size, imports.size)
  })

  it("the agent's bundle holds nothing of control plane, operator or simulator", () => {
    const modules: Record<string, ReadonlyArray<string>> = JSON.parse(
      readFileSync(join(root, "dist", "modules.json"), "utf8")
    )
    const agent = modules["nixfleet-agent"] ?? []
    assert.include(agent, "src/Main.ts")
    assert.deepStrictEqual(
      agent.filter((file) => /^src\/(?:ControlPlane|Operator|Simulation|Workers\/ControlPlane)\//.test(file)),
      []
    )
    assert.deepStrictEqual(agent.filter((file) => file.includes("node_modules/undici/")), [])
  })
})
