// The three programs and how their sources become one file each. Owns the bundler's settings; what becomes of the files is
// for `bundle.mjs` (commands for any Node from 24 on) and `build-binary.mjs` (the agent as one executable) to say.
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

export const root = join(dirname(fileURLToPath(import.meta.url)), "..")
export const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
/** The commit of the sources, short; `undefined` where they came without their history. */
function commit() {
  try {
    const args = ["rev-parse", "--short=12", "HEAD"]
    return execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()
  } catch {
    return undefined
  }
}

export const entries = {
  "nixfleet-agent": "src/Main.ts",
  "nixfleet-control-plane": "src/ControlPlane/Main.ts",
  "nixfleet": "src/Operator/Main.ts"
}

// A dependency's CommonJS asks for `require`, which an ES module has to make; a CommonJS bundle has it.
const requireBanner =
  "import { createRequire as __createRequire } from \"node:module\";const require = __createRequire(import.meta.url);"

/** Bundles a program into `file`; gives the modules that went into it, sorted, relative to the checkout. */
export async function bundleProgram(name, file, format) {
  // Not on top: an older Node cannot link it, and the guard's sentence must come first.
  const { rolldown } = await import("rolldown")
  const bundle = await rolldown({
    input: join(root, entries[name]),
    platform: "node",
    cwd: root,
    transform: {
      define: {
        "globalThis.NIXFLEET_VERSION": JSON.stringify(manifest.version),
        "globalThis.NIXFLEET_COMMIT": JSON.stringify(commit()) ?? "undefined"
      }
    },
    logLevel: "warn"
  })
  const { output } = await bundle.write({
    file,
    format,
    codeSplitting: false,
    // A process keeps the text of its program: short, and in ASCII, which V8 stores in half the space of any other text.
    // Functions keep their names and statements their lines, for the sake of stack traces.
    minify: { compress: true, mangle: true, codegen: false },
    keepNames: true,
    comments: { legal: true, annotation: false, jsdoc: false },
    charset: "ascii",
    // Each module in a function of its own, which V8 compiles one after another: compiling all as one body leaves the heap
    // of the process 4 MB larger for good.
    strictExecutionOrder: true,
    ...(format === "esm" ? { banner: requireBanner } : {})
  })
  return output.flatMap((chunk) => chunk.type === "chunk" ? Object.keys(chunk.modules) : [])
    .map((module) => relative(root, module)).toSorted((a, b) => a < b ? -1 : 1)
}
