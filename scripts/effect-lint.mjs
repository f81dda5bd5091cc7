// Effect's own diagnostics (floating effects, missing `return yield*`, clocks and randomness outside services). They come
// with a patched compiler that exists for some platforms only: elsewhere this step is skipped with the reason printed; in
// CI it must run.
import "./guard-node.mjs"
import { spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const compiler = join(root, "node_modules", "@effect", `tsgo-${process.platform}-${process.arch}`, "lib", "tsc")
if (existsSync(compiler)) {
  process.exit(spawnSync(compiler, ["-p", join(root, "tsconfig.effect.json")], { stdio: "inherit" }).status ?? 1)
}
console.log(`skipped: Effect diagnostics, no compiler for ${process.platform}-${process.arch}`)
process.exit(process.env.CI === undefined ? 0 : 1)
