/** Serves a directory as a binary cache, in a process of its own; says its address. */
import { serveFiles } from "../../examples/nix/BinaryCache.ts"

console.log((await serveFiles(process.argv[2]!)).url)
