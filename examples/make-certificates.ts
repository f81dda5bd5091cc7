/**
 * `node examples/make-certificates.ts DIRECTORY HOST...`: a throw-away authority, the control plane's certificate for
 * localhost, an operator's certificate, and one for each host. To try things out, not for real fleets.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { makeAuthority, writePem } from "./certificates.ts"

const [directory, ...names] = process.argv.slice(2)
if (directory === undefined || names.length === 0) {
  console.error("usage: node examples/make-certificates.ts DIRECTORY HOST...")
  process.exit(64)
}
mkdirSync(directory, { recursive: true, mode: 0o700 })
const authority = makeAuthority({
  commonName: "nixfleet example CA",
  now: Date.now(),
  agentSuffix: "example.fleet"
})
writeFileSync(join(directory, "ca.pem"), authority.cert)
writePem(directory, "control-plane", authority.server())
writePem(directory, "operator", authority.operator("operator-example"))
for (const name of names) writePem(directory, name, authority.agent(name))
console.log(`certificates of ${["control-plane", "operator", ...names].join(", ")} are in ${directory}`)
