// Makes the three commands in dist/: for each a bundle, `programs/<name>.mjs`, and the launcher `<name>.mjs` that a person
// starts, and its man page, `man/<name>.1`. `modules.json` lists the modules of each bundle, which a test reads to prove that nothing of the control plane,
// the operator command or the simulator is inside the agent. `--if-stale`: only when an input is newer than the result.
import "./guard-node.mjs"
import * as fs from "node:fs"
import { join } from "node:path"
import { bundleProgram, entries, manifest, root } from "./programs.mjs"

const dist = join(root, "dist")
const names = Object.keys(entries)

// What an older Node can still parse and run: no static import of what it does not have.
const launcherOf = (name) =>
  `#!/usr/bin/env node
if (Number(process.versions.node.split(".")[0]) < 24) {
  console.error("${name} needs Node 24 or newer and this is " + process.version + ".")
  process.exit(1)
}
import("./programs/${name}.mjs")
`

function isStale() {
  const outputs = names.flatMap((name) =>
    [`${name}.mjs`, `programs/${name}.mjs`, `man/${name}.1`].map((file) => join(dist, file))
  )
  if (outputs.some((file) => !fs.existsSync(file))) return true
  const built = Math.min(...outputs.map((file) => fs.statSync(file).mtimeMs))
  const inputs = fs.globSync(
    "{src/**/*.ts,package.json,package-lock.json,scripts/{bundle,programs}.mjs,scripts/man-pages.ts}",
    {
      cwd: root
    }
  )
  return inputs.some((file) => fs.statSync(join(root, file)).mtimeMs > built)
}

if (!process.argv.includes("--if-stale") || isStale()) {
  fs.mkdirSync(join(dist, "programs"), { recursive: true })
  const modules = {}
  for (const name of names) {
    modules[name] = await bundleProgram(name, join(dist, "programs", `${name}.mjs`), "esm")
    fs.writeFileSync(join(dist, `${name}.mjs`), launcherOf(name), { mode: 0o755 })
    // The mode above is only for a new file.
    fs.chmodSync(join(dist, `${name}.mjs`), 0o755)
  }
  // Not on top: an older Node cannot read it, and the guard's sentence must come first.
  const { writeManPages } = await import("./man-pages.ts")
  await writeManPages(join(dist, "man"), manifest.version)
  fs.writeFileSync(join(dist, "modules.json"), JSON.stringify(modules, undefined, 2))
}
