// Makes dist/nixfleet-agent: the agent and the pinned Node as one executable that needs nothing else on the host (a Node
// single executable application, D20). Plain, without code cache or snapshot, so that equal inputs give equal bytes.
//
// `--if-stale`: nothing is done when dist/ holds the executable of these very inputs. `--out DIR`: another place than dist/.
// Beside it: `nixfleet-agent.modules.json` (what the bundle is made of) and `nixfleet-agent.inputs` (hash of the inputs).
import "./guard-node.mjs"
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { bundleProgram, manifest, root } from "./programs.mjs"

const name = "nixfleet-agent"
const { values: options } = parseArgs({
  options: { "if-stale": { type: "boolean", default: false }, out: { type: "string", default: join(root, "dist") } }
})
const out = resolve(options.out)

if (process.versions.node !== manifest.devDependencies.node) {
  console.error(
    `The executable is made of Node ${manifest.devDependencies.node} and this is ${process.version}: use \`npm run build:binary\`.`
  )
  process.exit(1)
}

function run(command, args, cwd) {
  const { error, status, stderr, stdout } = spawnSync(command, args, { cwd, encoding: "utf8" })
  if (status === 0) return
  console.error(`\`${command} ${args.join(" ")}\` failed: ${error?.message ?? `status ${status}`}\n${stdout}${stderr}`)
  process.exit(1)
}

const seaConfig = {
  // Relative: the path becomes part of the blob, and the place of the checkout must not.
  main: `${name}.cjs`,
  output: `${name}.blob`,
  disableExperimentalSEAWarning: true,
  useSnapshot: false,
  useCodeCache: false,
  // An agent waits most of the time, so memory goes before speed: a nursery that stays at 1 MB (it would grow to 8 in the first
  // second), one thread for the engine's background work, no machine code for what is merely warm. What is heavy (TLS, hashes,
  // SQLite) is not JavaScript.
  execArgv: ["--disable-warning=ExperimentalWarning", "--optimize-for-size", "--v8-pool-size=1", "--no-sparkplug"],
  // It runs as root: NODE_OPTIONS of whoever starts it has no say.
  execArgvExtension: "none"
}
// Where Node looks for the blob, and the mark that tells it that there is one (Node's own, the same in every release).
const fuse = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2"

fs.mkdirSync(out, { recursive: true })
const work = fs.mkdtempSync(join(out, ".build-"))
process.on("exit", () => fs.rmSync(work, { recursive: true, force: true }))
const modules = await bundleProgram(name, join(work, seaConfig.main), "cjs")

const inputs = createHash("sha256")
for (const file of [process.execPath, join(work, seaConfig.main), join(root, "scripts", "build-binary.mjs")]) {
  inputs.update(fs.readFileSync(file))
}
const hash = inputs.update(manifest.devDependencies.postject).digest("hex")
const result = join(out, name)
const inputsFile = `${result}.inputs`

const isCurrent = fs.existsSync(result) && fs.existsSync(inputsFile) && fs.readFileSync(inputsFile, "utf8") === hash
if (!(options["if-stale"] && isCurrent)) {
  fs.writeFileSync(join(work, "sea.json"), JSON.stringify(seaConfig))
  run(process.execPath, ["--experimental-sea-config", "sea.json"], work)
  fs.copyFileSync(process.execPath, join(work, name))
  fs.chmodSync(join(work, name), 0o755)
  const postject = join(root, "node_modules", "postject", "dist", "cli.js")
  run(process.execPath, [postject, name, "NODE_SEA_BLOB", seaConfig.output, "--sentinel-fuse", fuse], work)
  // By rename, so that an agent that runs from there keeps its file.
  fs.renameSync(join(work, name), result)
  fs.writeFileSync(`${result}.modules.json`, JSON.stringify(modules, undefined, 2))
  fs.writeFileSync(inputsFile, hash)
}
