/**
 * Signing by a command, for keys that no file holds (TPM, HSM, a colleague's approval). The contract is the original's
 * (protocol.md §8.6): `NIXFLEET_INPUT` names the file with the bytes to sign, `NIXFLEET_OUTPUT` the file for the raw signature.
 *
 * Owns a private directory per call, deleted afterwards whatever happens, and the command's process group. Failures: a
 * command that ends with anything but 0, too late, or without one signature of 64 bytes.
 */
import { Effect, Schema } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { errorText } from "./Host/DurableFiles.ts"
import { signalProcess } from "./Host/Processes.ts"

/** Bytes of a raw signature, ed25519 or ECDSA P-256 (r and s). */
export const rawSignatureLength = 64

/** A person may have to touch a token. */
export const signCommandTimeoutMs = 120_000

export class SignCommandFailed extends Schema.TaggedError<SignCommandFailed>()("SignCommandFailed", {
  reason: Schema.Literal("sign-command-failed"),
  message: Schema.String
}) {}

const failed = (message: string) => new SignCommandFailed({ reason: "sign-command-failed", message })

const privateDirectory = Effect.acquireRelease(
  Effect.tryPromise({
    try: () => mkdtemp(join(tmpdir(), "nixfleet-sign-")),
    catch: (error) => failed(`no directory for the sign command: ${errorText(error)}`)
  }),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** Runs to its end; interrupting kills the whole group. */
const finished = (command: string, input: string, output: string) =>
  Effect.callback<number | string, SignCommandFailed>((resume) => {
    const child = spawn("/bin/sh", ["-c", command], {
      detached: true,
      // Its complaints, and a question for a touch or a PIN, go where the program's own errors go.
      stdio: ["inherit", "ignore", "inherit"],
      env: { ...process.env, NIXFLEET_INPUT: input, NIXFLEET_OUTPUT: output }
    })
    const ended = once(child, "exit").then(
      ([code, signal]) => resume(Effect.succeed(typeof code === "number" ? code : String(signal))),
      (error: unknown) => resume(Effect.fail(failed(`the sign command cannot be started: ${errorText(error)}`)))
    )
    return Effect.promise(() => {
      if (child.pid !== undefined) signalProcess(-child.pid, "SIGKILL")
      return ended
    })
  })

const read = Effect.fnUntraced(function*(output: string) {
  const size = yield* Effect.tryPromise({
    try: async () => (await stat(output)).size,
    catch: () => failed("the sign command wrote no signature to the file that NIXFLEET_OUTPUT names")
  })
  if (size !== rawSignatureLength) {
    return yield* failed(`the sign command wrote ${size} bytes, a raw signature has ${rawSignatureLength}`)
  }
  return yield* Effect.tryPromise({
    try: async () => new Uint8Array(await readFile(output)),
    catch: (error) => failed(`the signature cannot be read: ${errorText(error)}`)
  })
})

/** The raw signature that `command`, a line for `/bin/sh`, makes of `bytes`. */
export const signByCommand = Effect.fnUntraced(
  function*(command: string, bytes: Uint8Array, timeoutMs = signCommandTimeoutMs) {
    const directory = yield* privateDirectory
    const [input, output] = [join(directory, "input"), join(directory, "signature")]
    yield* Effect.tryPromise({
      try: () => writeFile(input, bytes, { mode: 0o600 }),
      catch: (error) => failed(`the bytes to sign cannot be written: ${errorText(error)}`)
    })
    const end = yield* finished(command, input, output).pipe(
      Effect.timeoutOrElse({
        duration: timeoutMs,
        orElse: () => Effect.fail(failed(`the sign command did not end within ${timeoutMs} ms`))
      })
    )
    if (end !== 0) {
      return yield* failed(
        typeof end === "number" ? `the sign command ended with ${end}` : `the sign command was killed by ${end}`
      )
    }
    return yield* read(output)
  },
  Effect.scoped
)
