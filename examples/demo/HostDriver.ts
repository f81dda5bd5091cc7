/** What differs between the demo's two kinds of host: those of archives and those with a real Nix. */
import type { Command } from "./Processes.ts"

export interface HostDriver {
  /** Makes a closure whose web service answers with `status`, where hosts find it; the closure's name. */
  readonly makeClosure: (name: string, status: number) => Promise<string>
  /** What it did to make it. */
  readonly made: string
  /** Directory of the system that a host runs, as this machine sees it; throws, or is not there, when it never switched. */
  readonly runningSystem: (host: string) => string
  /** The agent's options that are of this kind of host. */
  readonly agentFlags: (host: string) => Readonly<Record<string, string>>
  /** How the agent of a host is run with these arguments. */
  readonly agent: (host: string, args: ReadonlyArray<string>) => Command
  /** As `makeClosure`, signed with a key that no host trusts; not there where closures are not signed. */
  readonly makeForeignClosure?: (name: string) => Promise<string>
  /** Commands that show what is left of a host; paths are relative to the working folder. */
  readonly leftBehind: (host: string) => ReadonlyArray<readonly [command: string, path: string]>
  readonly close: () => void
}
