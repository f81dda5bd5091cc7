/** The version of the program, put in by the bundler (`scripts/bundle.mjs`). */
declare global {
  var NIXFLEET_VERSION: string | undefined
}

/** `development` when it runs from its sources. */
export const version: string = globalThis.NIXFLEET_VERSION ?? "development"
