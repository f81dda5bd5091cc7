/** Which program this is, put in by the bundler (`scripts/programs.mjs`). */
declare global {
  var NIXFLEET_VERSION: string | undefined
  var NIXFLEET_COMMIT: string | undefined
}

/** `development` when it runs from its sources. */
export const version: string = globalThis.NIXFLEET_VERSION ?? "development"

/** The commit of the sources; `unknown` when they came without their history. */
export const commit: string = globalThis.NIXFLEET_COMMIT ?? "unknown"
