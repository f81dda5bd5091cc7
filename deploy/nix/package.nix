# The three commands as one bundle each, run by Node 24. Needs nixpkgs: parsed by this project's tests, never built by them.
{ lib, buildNpmPackage, importNpmLock, nodejs_24, makeWrapper, installShellFiles }:
let
  manifest = lib.importJSON ../../package.json;
in
buildNpmPackage {
  pname = "nixfleet";
  inherit (manifest) version;
  src = lib.cleanSource ../..;
  nodejs = nodejs_24;
  # Every package by the hash that package-lock.json has of it.
  npmDeps = importNpmLock { npmRoot = ../..; };
  npmConfigHook = importNpmLock.npmConfigHook;
  # The npm package `node` would bring a second Node.
  npmFlags = [ "--ignore-scripts" ];
  buildPhase = "node scripts/bundle.mjs";
  nativeBuildInputs = [ makeWrapper installShellFiles ];
  installPhase = ''
    mkdir -p $out/lib/nixfleet $out/bin
    cp -r dist package.json $out/lib/nixfleet/
    for name in nixfleet nixfleet-agent nixfleet-control-plane; do
      makeWrapper ${nodejs_24}/bin/node $out/bin/$name --add-flags $out/lib/nixfleet/dist/$name.mjs
      $out/bin/$name --completions bash >$name.bash
      installShellCompletion $name.bash
    done
    installManPage dist/man/*.1
  '';
  meta = {
    description = manifest.description;
    license = lib.licenses.mit;
    mainProgram = "nixfleet";
    platforms = lib.platforms.linux;
  };
}
