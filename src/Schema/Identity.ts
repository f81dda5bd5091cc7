/** Who a client certificate says that its holder is (D16). */

/**
 * The organizational unit of every operator's certificate. A host's certificate never has one: its issuer writes the whole
 * subject itself and takes nothing but the key from a request.
 */
export const operatorUnit = "nixfleet-operator"

/** The common name of a host's certificate (control-plane.md §8.3). */
export const agentCommonName = (machineId: string, suffix: string): string => `agent-${machineId}.${suffix}`

/** Whether a certificate's name is this host's: as above, or the bare machine id of older fleets (control-plane.md §2.1). */
export const namesHost = (commonName: string, machineId: string): boolean =>
  commonName === machineId || commonName.startsWith(`agent-${machineId}.`)
