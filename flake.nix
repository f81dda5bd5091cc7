# Needs nixpkgs: parsed by this project's tests, never built by them. What the modules need no nixpkgs for is evaluated.
{
  description = "nixfleet: signed system closures onto fleets of hosts, and the proof that they got there";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forAll = make: builtins.listToAttrs (map (system: { name = system; value = make system; }) systems);
    in
    {
      packages = forAll (system: {
        default = nixpkgs.legacyPackages.${system}.callPackage ./deploy/nix/package.nix { };
      });
      nixosModules = {
        agent = import ./deploy/nix/agent.nix { inherit self; };
        control-plane = import ./deploy/nix/control-plane.nix { inherit self; };
      };
    };
}
