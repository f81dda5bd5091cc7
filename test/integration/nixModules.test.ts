/**
 * The NixOS modules as far as they can be tried without nixpkgs and without NixOS: all files parse, and each module, with a
 * stand-in for `lib` and `pkgs`, gives a service whose settings are those of the unit file.
 */
import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")
const at = (...parts: ReadonlyArray<string>) => join(root, ...parts)

/** Why nothing can be evaluated here; in CI it must be possible. */
const noNix: string | undefined = (() => {
  if (spawnSync("nix-instantiate", ["--version"]).status === 0) return undefined
  const reason = "tests of the NixOS modules need nix-bin (apt-get install)"
  if (process.env["CI"] !== undefined) throw new Error(reason)
  console.log(`skipped: ${reason}`)
  return reason
})()

/** In a store of its own that is never written. */
const nix = (args: ReadonlyArray<string>) => {
  const { status, stderr, stdout } = spawnSync("nix-instantiate", args, {
    encoding: "utf8",
    env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent", NIX_REMOTE: "dummy://" }
  })
  assert.strictEqual(status, 0, stderr)
  return stdout
}

/** What the modules use of nixpkgs, without its checks. */
const standIns = `
  lib = {
    mkOption = option: option;
    mkEnableOption = what: { description = what; };
    mkIf = condition: value: if condition then value else { };
    mkDefault = value: value;
    types = { package = "package"; str = "str"; int = "int"; bool = "bool"; attrs = "attrs"; oneOf = _: "oneOf"; attrsOf = _: "attrsOf"; };
  };
  pkgs = {
    stdenv.hostPlatform.system = "x86_64-linux";
    writeText = name: text: "/store/\${name}";
    coreutils = "coreutils"; util-linux = "util-linux";
  };
  self.packages.x86_64-linux.default = "/store/nixfleet";
`

interface Service {
  readonly description: string
  readonly after: ReadonlyArray<string>
  readonly wants: ReadonlyArray<string>
  readonly wantedBy: ReadonlyArray<string>
  readonly unitConfig: Readonly<Record<string, unknown>>
  readonly serviceConfig: Readonly<Record<string, string | ReadonlyArray<string>>>
  readonly environment?: Readonly<Record<string, string>>
}

interface Evaluated {
  readonly options: ReadonlyArray<string>
  readonly settings: Readonly<Record<string, unknown>>
  readonly service: Service
}

/** The module of `deploy/nix/<name>.nix`, enabled. */
const evaluated = (name: string, configured: string): Evaluated =>
  JSON.parse(nix([
    "--eval",
    "--strict",
    "--json",
    "-E",
    `let
      ${standIns}
      module = import ${at("deploy/nix", `${name}.nix`)} { inherit self; } { inherit lib pkgs config; };
      config = {
        networking.hostName = "alpha";
        nix.package = "nix";
        systemd.package = "systemd";
        services.nixfleet-${name} = { enable = true; package = "/store/nixfleet"; settings = { }; ${configured} };
      };
    in {
      options = builtins.attrNames module.options.services.nixfleet-${name};
      settings = module.config.services.nixfleet-${name}.settings;
      service = module.config.systemd.services.nixfleet-${name};
    }`
  ]))

/** Keys and values of a unit file, by section; a key that comes several times has a list. */
function unitFile(name: string): Readonly<Record<string, Readonly<Record<string, string | ReadonlyArray<string>>>>> {
  const sections: Record<string, Record<string, string | Array<string>>> = {}
  let section: Record<string, string | Array<string>> = {}
  for (const line of readFileSync(at(`deploy/systemd/nixfleet-${name}.service`), "utf8").split("\n")) {
    const [, header] = /^\[(\w+)\]$/.exec(line) ?? []
    if (header !== undefined) section = sections[header] = {}
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? []
    if (key === undefined || value === undefined) continue
    const before = section[key]
    section[key] = before === undefined ? value : [before, value].flat()
  }
  return sections
}

const words = (value: string | ReadonlyArray<string> | undefined) =>
  [value ?? []].flat().flatMap((one) => one.split(" "))

describe.skipIf(noNix !== undefined)("the files for Nix", () => {
  for (const file of ["flake.nix", ...readdirSync(at("deploy/nix")).map((name) => `deploy/nix/${name}`)]) {
    it(`${file} parses`, () => {
      assert.notStrictEqual(nix(["--parse", at(file)]), "")
    })
  }

  const modules = [
    { name: "agent", configured: "healthChecks = { };", command: "nixfleet-agent run", own: {} },
    {
      name: "control-plane",
      configured: "keysDirectory = \"/secrets/cp\";",
      command: "nixfleet-control-plane serve",
      own: { LoadCredential: "key:/secrets/cp" }
    }
  ]
  for (const { command, configured, name, own } of modules) {
    it(`the service of ${name} is the unit that other systems install`, () => {
      const { service } = evaluated(name, configured)
      const unit = unitFile(name)
      assert.deepStrictEqual(service.serviceConfig, {
        ...unit["Service"],
        ...own,
        ExecStart: `/store/nixfleet/bin/${command} --config /store/nixfleet-${name}.json`
      })
      assert.strictEqual(service.description, unit["Unit"]?.["Description"])
      assert.deepStrictEqual(service.after, words(unit["Unit"]?.["After"]))
      assert.deepStrictEqual(service.wants, words(unit["Unit"]?.["Wants"]))
      assert.deepStrictEqual(service.wantedBy, words(unit["Install"]?.["WantedBy"]))
      assert.deepStrictEqual(service.unitConfig, {
        StartLimitIntervalSec: Number(unit["Unit"]?.["StartLimitIntervalSec"])
      })
    })
  }

  it("the agent is its host, and writes the store through the daemon", () => {
    const { options, service, settings } = evaluated("agent", "healthChecks = { };")
    assert.deepStrictEqual(settings, { machineId: "alpha" })
    assert.deepStrictEqual(service.environment, { NIX_REMOTE: "daemon" })
    assert.sameMembers([...options], ["enable", "package", "settings", "healthChecks"])
  })

  it("the control plane finds its key where systemd hands it over", () => {
    assert.deepStrictEqual(evaluated("control-plane", "keysDirectory = \"/secrets/cp\";").settings, {
      stateDir: "/var/lib/nixfleet-cp",
      tlsKey: "/run/credentials/nixfleet-control-plane.service/key_tls.pem"
    })
  })

  it("the outputs of the flake are modules and packages", () => {
    const found = JSON.parse(nix([
      "--eval",
      "--strict",
      "--json",
      "-E",
      `let outputs = (import ${at("flake.nix")}).outputs { self = { }; nixpkgs.legacyPackages = { }; }; in {
        systems = builtins.attrNames outputs.packages;
        modules = builtins.mapAttrs (_: builtins.isFunction) outputs.nixosModules;
      }`
    ]))
    assert.deepStrictEqual(found, {
      systems: ["aarch64-linux", "x86_64-linux"],
      modules: { agent: true, "control-plane": true }
    })
  })
})
