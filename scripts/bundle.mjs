// Bundles the three programs into dist/, one file each. The agent's bundle is what ships to hosts: `--modules` prints the
// source modules of each bundle, which a test reads to prove that nothing of the control plane, the operator command or
// the simulator is inside the agent.
import "./guard-node.mjs"
import * as fs from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

// After the guard: an older Node could not even link these.
const { rolldown } = await import("rolldown")

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const programs = {
  "nixfleet-agent": "src/Main.ts",
  "nixfleet-control-plane": "src/ControlPlane/Main.ts",
  "nixfleet": "src/Operator/Main.ts"
}
const version = JSON.parse(fs.readFileSync(join(root, "package.json"), "utf8")).version

function isStale() {
  const outputs = Object.keys(programs).map((name) => join(root, "dist", `${name}.mjs`))
  if (outputs.some((file) => !fs.existsSync(file))) return true
  const built = Math.min(...outputs.map((file) => fs.statSync(file).mtimeMs))
  const inputs = fs.globSync("{src/**/*.ts,package.json,package-lock.json,scripts/bundle.mjs}", { cwd: root })
  return inputs.some((file) => fs.statSync(join(root, file)).mtimeMs > built)
}

if (!process.argv.includes("--if-stale") || isStale()) {
  fs.mkdirSync(join(root, "dist"), { recursive: true })
  const modules = {}
  for (const [name, entry] of Object.entries(programs)) {
    const bundle = await rolldown({
      input: join(root, entry),
      platform: "node",
      cwd: root,
      transform: { define: { "globalThis.NIXFLEET_VERSION": JSON.stringify(version) } },
      logLevel: "warn"
    })
    const { output } = await bundle.write({
      file: join(root, "dist", `${name}.mjs`),
      format: "esm",
      minify: false,
      keepNames: true,
      codeSplitting: false,
      banner:
        "#!/usr/bin/env node\nimport { createRequire as __createRequire } from \"node:module\";const require = __createRequire(import.meta.url);"
    })
    modules[name] = output.flatMap((chunk) => chunk.type === "chunk" ? Object.keys(chunk.modules) : [])
      .map((file) => relative(root, file)).toSorted((a, b) => a < b ? -1 : 1)
  }
  fs.writeFileSync(join(root, "dist", "modules.json"), JSON.stringify(modules, undefined, 2))
}
