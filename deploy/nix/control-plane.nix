# services.nixfleet-control-plane: the control plane of a fleet, on a NixOS host. Its unit is that of `deploy/systemd`, read at
# evaluation. Evaluated by this project's tests with a stand-in for nixpkgs; never run on NixOS by them.
{ self }:
{ config, lib, pkgs, ... }:
let
  cfg = config.services.nixfleet-control-plane;
  common = import ./common.nix { inherit lib; };
  unit = ../systemd/nixfleet-control-plane.service;
  file = pkgs.writeText "nixfleet-control-plane.json" (builtins.toJSON cfg.settings);
in
{
  options.services.nixfleet-control-plane = {
    enable = lib.mkEnableOption "the nixfleet control plane";
    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      description = "The package with the control plane.";
    };
    keysDirectory = lib.mkOption {
      type = lib.types.str;
      default = "/etc/nixfleet/cp/keys";
      description = ''
        Directory of private keys, outside of the store, for root alone; systemd hands each file over. `tls.pem` is the key of
        the server's certificate; for others, name `/run/credentials/nixfleet-control-plane.service/key_<file>` in a setting.
      '';
    };
    settings = common.settingsOption lib ''
      The control plane's options, by their names in camelCase (`man nixfleet-control-plane`).
    '';
  };

  config = lib.mkIf cfg.enable {
    services.nixfleet-control-plane.settings = {
      stateDir = lib.mkDefault "/var/lib/nixfleet-cp";
      tlsKey = lib.mkDefault "/run/credentials/nixfleet-control-plane.service/key_tls.pem";
    };
    environment.systemPackages = [ cfg.package ];
    systemd.services.nixfleet-control-plane = {
      description = "nixfleet control plane";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      wantedBy = [ "multi-user.target" ];
      path = [ config.systemd.package ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = common.sectionOf "Service" unit // {
        ExecStart = "${cfg.package}/bin/nixfleet-control-plane serve --config ${file}";
        LoadCredential = "key:${cfg.keysDirectory}";
      };
    };
  };
}
