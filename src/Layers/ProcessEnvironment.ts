/**
 * The environment of this process as a value: read once, at the start, by the mains. Everything below gets what it needs
 * as configuration.
 */
import { env } from "node:process"

/** A copy: later changes of the process's own variables are not seen. */
export const processEnvironment = (): Readonly<Record<string, string | undefined>> => ({ ...env })
