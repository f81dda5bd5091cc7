/** What the rows about certificates mean (control-plane.md §8). */
import { HashMap } from "effect"
import type { IdentityFact, Issued, RenewalChain } from "../../Schema/ControlPlaneJournal.ts"
import { chainOf, chainsLimit, type Identities, noncesInForce, revocationsInForce } from "../Identities.ts"
import { at, type State } from "../State.ts"
import type { Touched } from "./Touched.ts"

export function foldIdentity(state: State, fact: IdentityFact, touched: Touched): State {
  return { ...state, identities: identitiesAfter(state.identities, fact, touched) }
}

function identitiesAfter(identities: Identities, fact: IdentityFact, touched: Touched): Identities {
  switch (fact.fact) {
    case "RevocationsInForce":
      touched.lists.add("revocations")
      return { ...identities, revocations: revocationsInForce(fact.list) }
    case "NoncesInForce":
      touched.lists.add("nonces")
      return { ...identities, nonces: noncesInForce(fact.list) }
    case "NonceUsed":
      touched.nonces.add(fact.use.nonce)
      return { ...identities, used: HashMap.set(identities.used, fact.use.nonce, fact.use) }
    case "CertificateIssued":
      touched.chains.add(fact.issued.host)
      return {
        ...identities,
        chains: HashMap.set(identities.chains, fact.issued.host, chainsAfter(identities, fact.issued))
      }
  }
}

/** A renewal makes its chain longer; an enrollment, or a certificate from elsewhere, begins one. */
function chainsAfter(identities: Identities, { by, host, notBefore }: Issued): ReadonlyArray<RenewalChain> {
  const chains = at(identities.chains, host) ?? []
  const renewed = by.request === "renew" ? chainOf(identities, host, by.notBefore) : undefined
  if (renewed !== undefined) {
    const lastAt = Math.max(renewed.lastAt, notBefore)
    return chains.map((chain) => chain === renewed ? { ...chain, lastAt } : chain)
  }
  const firstAt = by.request === "renew" ? by.notBefore : notBefore
  return bounded([...chains, { firstAt, lastAt: notBefore }])
}

function bounded(chains: ReadonlyArray<RenewalChain>): ReadonlyArray<RenewalChain> {
  const [first, second, ...others] = chains
  if (chains.length <= chainsLimit || first === undefined || second === undefined) return chains
  const both = { firstAt: Math.min(first.firstAt, second.firstAt), lastAt: Math.max(first.lastAt, second.lastAt) }
  return [both, ...others]
}
