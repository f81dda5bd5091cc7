/** The tree of the `nixfleet` command: one file a subcommand, in `commands/`. */
import { Command } from "effect/cli"
import { canonicalize } from "./commands/Canonicalize.ts"
import { closurePack } from "./commands/ClosurePack.ts"
import { keysNew } from "./commands/KeysNew.ts"
import { keysShow } from "./commands/KeysShow.ts"
import { releaseBuild } from "./commands/ReleaseBuild.ts"
import { releaseSign } from "./commands/ReleaseSign.ts"
import { rolloutHosts } from "./commands/RolloutHosts.ts"
import { rolloutList } from "./commands/RolloutList.ts"
import { status } from "./commands/Status.ts"
import { verifyArtifact } from "./commands/Verify.ts"

const release = Command.make("release").pipe(
  Command.withDescription("Make and sign releases"),
  Command.withSubcommands([releaseBuild, releaseSign])
)
const keys = Command.make("keys").pipe(
  Command.withDescription("Signing keys"),
  Command.withSubcommands([keysNew, keysShow])
)
const closure = Command.make("closure").pipe(
  Command.withDescription("Closures for hosts without Nix"),
  Command.withSubcommands([closurePack])
)
const rollout = Command.make("rollout").pipe(
  Command.withDescription("Rollouts, as the control plane sees them"),
  Command.withSubcommands([rolloutList, rolloutHosts])
)

export const root = Command.make("nixfleet").pipe(
  Command.withDescription("Makes signed releases of a fleet and shows how they are rolled out"),
  Command.withSubcommands([release, keys, closure, canonicalize, verifyArtifact, status, rollout])
)
