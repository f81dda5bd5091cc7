/** A reader that has seen enough: `nixfleet rollout events … --follow | head`. */
import { exit, stdout } from "node:process"

/** 128 and the number of SIGPIPE: what a shell reports of any command whose reader went away. */
const exitClosedPipe = 141

/** Ends the process without a word when nobody reads its standard output any more; every other error stays a fault. */
export const endWhenNobodyReads = (): void => {
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") exit(exitClosedPipe)
    throw error
  })
}
