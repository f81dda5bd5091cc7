# services.nixfleet-agent: the agent of one NixOS host. Its unit is that of `deploy/systemd`, read at evaluation. Evaluated by
# this project's tests with a stand-in for nixpkgs; never run on NixOS by them.
{ self }:
{ config, lib, pkgs, ... }:
let
  cfg = config.services.nixfleet-agent;
  common = import ./common.nix { inherit lib; };
  unit = ../systemd/nixfleet-agent.service;
  file = pkgs.writeText "nixfleet-agent.json" (builtins.toJSON cfg.settings);
in
{
  options.services.nixfleet-agent = {
    enable = lib.mkEnableOption "the nixfleet agent";
    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      description = "The package with the agent.";
    };
    settings = common.settingsOption lib ''
      The agent's options, by their names in camelCase (`man nixfleet-agent`). `controlPlaneUrl`, `trustFile`, `caCert`,
      `clientCert` and `clientKey` have no default; `machineId` is the host's name.
    '';
    healthChecks = lib.mkOption {
      type = lib.types.attrs;
      default = { };
      description = "Declaration of the health probes. It is part of the closure, and so trusted with it.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.nixfleet-agent.settings.machineId = lib.mkDefault config.networking.hostName;
    environment.systemPackages = [ cfg.package ];
    environment.etc."nixfleet/agent/agent.json".source = file;
    environment.etc."nixfleet/agent/health-checks.json" = lib.mkIf (cfg.healthChecks != { }) {
      text = builtins.toJSON cfg.healthChecks;
    };
    systemd.services.nixfleet-agent = {
      description = "nixfleet agent";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" "nix-daemon.socket" ];
      wantedBy = [ "multi-user.target" ];
      # The switch that replaces this very unit restarts it at its end; until then the agent watches it.
      restartIfChanged = true;
      stopIfChanged = false;
      path = [ config.nix.package config.systemd.package pkgs.coreutils pkgs.util-linux ];
      # The store is read-only on NixOS, and the unit may not remount it: the daemon writes it.
      environment.NIX_REMOTE = "daemon";
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = common.sectionOf "Service" unit // {
        ExecStart = "${cfg.package}/bin/nixfleet-agent run --config ${file}";
      };
    };
  };
}
