/** The tree of the `nixfleet` command: one file a subcommand, in `commands/`. */
import { Command } from "effect/cli"
import { actions } from "./commands/Actions.ts"
import { caInit } from "./commands/CaInit.ts"
import { canonicalize } from "./commands/Canonicalize.ts"
import { caServerCert } from "./commands/CaServerCert.ts"
import { closurePack } from "./commands/ClosurePack.ts"
import { derivePubkey } from "./commands/DerivePubkey.ts"
import { freeze, unfreeze } from "./commands/Freeze.ts"
import { hostHold, hostRelease } from "./commands/HostHold.ts"
import { keysNew } from "./commands/KeysNew.ts"
import { keysShow } from "./commands/KeysShow.ts"
import { nonceMint } from "./commands/NonceMint.ts"
import { operatorMintCert } from "./commands/OperatorMintCert.ts"
import { plan } from "./commands/Plan.ts"
import { quarantineClear, quarantineList } from "./commands/Quarantine.ts"
import { releaseBuild } from "./commands/ReleaseBuild.ts"
import { releaseSign } from "./commands/ReleaseSign.ts"
import { revocationLift, revocationMint } from "./commands/RevocationMint.ts"
import { rolloutClear } from "./commands/RolloutClear.ts"
import { rolloutEvents } from "./commands/RolloutEvents.ts"
import { rolloutHosts } from "./commands/RolloutHosts.ts"
import { rolloutList } from "./commands/RolloutList.ts"
import { rolloutPause, rolloutResume } from "./commands/RolloutPause.ts"
import { rolloutWait } from "./commands/RolloutWait.ts"
import { status } from "./commands/Status.ts"
import { tokenMint } from "./commands/TokenMint.ts"
import { trustRotate } from "./commands/TrustRotate.ts"
import { trustShow } from "./commands/TrustShow.ts"
import { verifyArtifact } from "./commands/Verify.ts"
import { why } from "./commands/Why.ts"

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
  Command.withSubcommands([
    rolloutList,
    rolloutHosts,
    rolloutEvents,
    rolloutWait,
    rolloutPause,
    rolloutResume,
    rolloutClear
  ])
)
const host = Command.make("host").pipe(
  Command.withDescription("Single hosts"),
  Command.withSubcommands([hostHold, hostRelease])
)
const quarantine = Command.make("quarantine").pipe(
  Command.withDescription("What is not dispatched again because it failed"),
  Command.withSubcommands([quarantineList, quarantineClear])
)

const ca = Command.make("ca").pipe(
  Command.withDescription("The fleet's certificate authority"),
  Command.withSubcommands([caInit, caServerCert])
)
const operator = Command.make("operator").pipe(
  Command.withDescription("Operators' identities"),
  Command.withSubcommands([operatorMintCert])
)
const token = Command.make("token").pipe(
  Command.withDescription("Bootstrap tokens, with which hosts enroll"),
  Command.withSubcommands([tokenMint])
)
const nonce = Command.make("nonce").pipe(
  Command.withDescription("The signed list of bootstrap tokens that may be used"),
  Command.withSubcommands([nonceMint])
)
const revocation = Command.make("revocation").pipe(
  Command.withDescription("The signed list of hosts whose certificates are void"),
  Command.withSubcommands([revocationMint, revocationLift])
)
const trust = Command.make("trust").pipe(
  Command.withDescription("Trust files"),
  Command.withSubcommands([trustShow, trustRotate])
)

export const root = Command.make("nixfleet").pipe(
  Command.withDescription("Makes signed releases of a fleet and shows how they are rolled out"),
  Command.withSubcommands([
    release,
    keys,
    trust,
    ca,
    operator,
    token,
    nonce,
    revocation,
    derivePubkey,
    closure,
    canonicalize,
    verifyArtifact,
    plan,
    status,
    why,
    rollout,
    host,
    quarantine,
    freeze,
    unfreeze,
    actions
  ])
)
