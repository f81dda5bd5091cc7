/** What this host is, and who starts its services. */
import { existsSync } from "node:fs"
import { type Launcher, launchInSession } from "../SwitchLaunch.ts"
import { launchUnit } from "./SystemdSwitch.ts"

/** The kind of system that the closures of this host are. */
export const hostSystem: "nixos" | "darwin" = process.platform === "darwin" ? "darwin" : "nixos"

/** Whether systemd runs this host, as `sd_booted(3)` tells it. */
export const isSystemdHost = (): boolean => existsSync("/run/systemd/system")

/** A unit under systemd; elsewhere a session of its own. */
export const hostLauncher = (): Launcher => isSystemdHost() ? launchUnit : launchInSession

/**
 * For a switch that needs no more than to outlive this process: a unit where this is a service of systemd, whose end would
 * take a mere session with it. One machine can be many hosts then, as long as none of them is a service.
 */
export const serviceLauncher = (environment: Readonly<Record<string, string | undefined>>): Launcher =>
  isSystemdHost() && environment["NOTIFY_SOCKET"] !== undefined ? launchUnit : launchInSession
