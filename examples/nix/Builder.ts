/**
 * The machine that builds: a store of its own in a directory, closures built in it without a network, and a signed binary
 * cache beside it. It has two keys, one that hosts trust and one that nobody does.
 */
import { execFile, spawnSync } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { hostPath, namespace } from "./Namespace.ts"

const run = promisify(execFile)

/** A configuration of Nix for a store that belongs to one user and builds without a sandbox. */
export const nixConf = (lines: ReadonlyArray<string>): string =>
  ["sandbox = false", "build-users-group =", "experimental-features = nix-command", ...lines, ""].join("\n")

/** Deletes a directory with a store in it, which Nix made read-only. */
export function removeStore(directory: string): void {
  spawnSync("chmod", ["-R", "u+w", directory])
  rmSync(directory, { recursive: true, force: true })
}

/** A system: its switch, and what else there is in it. */
export interface ToySystem {
  readonly name: string
  /** Text of `bin/switch-to-configuration`. */
  readonly program: string
  /** Shell text that adds to `$out`. */
  readonly extra?: string
  /** Of noise that does not compress. */
  readonly payloadBytes?: number
  /** Paths that it refers to, besides itself, and noise in each of them. */
  readonly references?: number
  readonly referenceBytes?: number
  /** In the cache; without it a flipped byte of the contents keeps the archive's frame whole. */
  readonly compression?: "none" | "zstd"
  readonly key?: "trusted" | "other"
}

const expression = `{ name, program, extra ? "", payloadBytes, references, referenceBytes }:
let
  make = name: env: text: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-euc" text ]; PATH = "/usr/bin:/bin";
  } // env);
  noise = file: seed: bytes: if bytes == 0 then "" else
    "openssl enc -aes-128-ctr -nosalt -pass pass:\${seed}-\${name} -in /dev/zero 2>/dev/null | "
    + "head -c \${toString bytes} >\${file}";
  base = number: make "base-\${toString number}-\${name}" {} ''
    mkdir $out
    echo base >$out/base
    \${noise "$out/noise" (toString number) referenceBytes}
  '';
in make name {
  inherit program; passAsFile = [ "program" "bases" ];
  bases = builtins.concatStringsSep "\\n" (builtins.genList base references);
} ''
  mkdir -p $out/bin
  cp $basesPath $out/bases
  cp $programPath $out/bin/switch-to-configuration
  chmod +x $out/bin/switch-to-configuration
  \${noise "$out/payload" "payload" payloadBytes}
  \${extra}
''
`

/** Text of a switch: moves the link of the running system as a real one does. */
export const moveLink =
  `ln -sfn "/nix/store/\${NIXFLEET_CLOSURE##*/}" "$NIXFLEET_CURRENT_SYSTEM.new" && mv -T "$NIXFLEET_CURRENT_SYSTEM.new" "$NIXFLEET_CURRENT_SYSTEM"\n`

export class Builder {
  readonly directory: string
  /** What a server of files has to serve. */
  readonly cache: string
  /** The public key that hosts trust. */
  readonly trustedKey: Promise<string>

  /** `directory`: an empty one, its own. */
  constructor(directory: string) {
    this.directory = directory
    this.cache = join(directory, "cache")
    mkdirSync(join(directory, "nix"))
    mkdirSync(this.cache)
    writeFileSync(join(directory, "nix.conf"), nixConf(["substituters ="]))
    writeFileSync(join(directory, "toy.nix"), expression)
    this.trustedKey = this.#inside(`
      for name in trusted other; do nix-store --generate-binary-cache-key $name-1 $L/$name.sec $L/$name.pub; done
      cat $L/trusted.pub`)
  }

  /** Builds a system, signs it and pushes it with what it refers to; answers the closure's name. */
  async publish(system: ToySystem): Promise<string> {
    const { compression = "none", extra = "", key = "trusted", name, program } = system
    const { payloadBytes = 100_000, referenceBytes = 0, references = 1 } = system
    await this.trustedKey
    const path = await this.#inside(
      `
      path=$(nix-build --no-out-link $L/toy.nix --argstr name "$1" --argstr program "$2" --argstr extra "$3" \\
        --arg payloadBytes "$4" --arg references "$5" --arg referenceBytes "$6")
      nix copy --to "file://$L/cache?secret-key=$L/$7.sec&compression=$8" $path
      echo $path`,
      [name, program, extra, String(payloadBytes), String(references), String(referenceBytes), key, compression]
    )
    return path.slice("/nix/store/".length)
  }

  /** Runs shell text as that machine. */
  async #inside(text: string, args: ReadonlyArray<string> = []): Promise<string> {
    const { directory } = this
    const command = ["/bin/sh", "-euc", text, "sh", ...args]
    const variables = { HOME: "/tmp", NIX_CONF_DIR: directory, NIX_REMOTE: "", L: directory, PATH: hostPath }
    const { stdout } = await run(
      "bwrap",
      namespace({ nix: join(directory, "nix"), writable: [directory] }, command),
      { env: variables }
    )
    return stdout.trim()
  }
}
