// Set-up for `npm run demo` and `npm test` on a fresh clone: dependencies, then bundles. Runs on any Node >= 20, because
// it is what brings Node 24 in (as the development dependency `node`). Nothing is done twice: an installed tree that
// matches the lock file is kept.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, statSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const installed = join(root, "node_modules", ".package-lock.json")
const lock = join(root, "package-lock.json")

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit" })
  if (result.status !== 0) {
    console.error(`set-up stopped: \`${command} ${args.join(" ")}\` ended with ${result.status ?? result.signal}`)
    process.exit(1)
  }
}

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
  console.log("set-up: installing the locked dependencies (npm ci); this also brings Node 24")
  // npm itself may run on an older Node, of which it warns for each package; what matters is checked below.
  run("npm", ["ci", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"])
}
const wanted = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).devDependencies.node
const node = join(root, "node_modules", ".bin", "node")
if (!existsSync(node)) {
  console.error(`set-up stopped: Node ${wanted} is not in node_modules; run \`npm ci\` without --ignore-scripts`)
  process.exit(1)
}
run(node, [join(root, "scripts", "bundle.mjs"), "--if-stale"])
