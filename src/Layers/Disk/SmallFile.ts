/**
 * Reads a file that a person or another program wrote: configuration, keys, certificates. Whole, but bounded, and only an
 * ordinary file: these are read synchronously, so that a fifo of that name would stop the process for ever, and an endless
 * device would fill its memory. Throws what `node:fs` throws, or an `Error` that says which of the two it is.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs"

/** Largest file that is read: keys of a thousand releases, or a thousand authorities, take a tenth of it. */
export const maxSmallFileBytes = 1_048_576

export function readSmallFile(file: string): Buffer {
  const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stat = fstatSync(descriptor)
    if (!stat.isFile()) throw new Error("not a regular file")
    if (stat.size > maxSmallFileBytes) {
      throw new Error(`${stat.size} bytes, more than the ${maxSmallFileBytes} that are read`)
    }
    return readFileSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
