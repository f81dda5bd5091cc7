/**
 * What a host says about itself: how long it is up, and which boot this is. Read anew each time; a fact that cannot be
 * read is absent, never invented (house rule 8).
 */
import { Context, Effect, Layer } from "effect"
import { readFile } from "node:fs/promises"
import { uptime } from "node:os"
import { logOf } from "../Logging.ts"

const log = logOf("agent_host")

export class Facts extends Context.Service<Facts, {
  /** Whole seconds since the host was booted. */
  readonly uptimeSeconds: Effect.Effect<number>
  /** Differs after each boot: a deferred activation is complete only in a later one (D11). */
  readonly bootId: Effect.Effect<string | undefined>
}>()("nixfleet/Layers/Host/Facts") {
  static readonly layer: Layer.Layer<Facts> = Layer.succeed(
    Facts,
    Facts.of({
      uptimeSeconds: Effect.sync(() => Math.floor(uptime())),
      bootId: Effect.tryPromise({ try: () => readFile("/proc/sys/kernel/random/boot_id", "utf8"), catch: String }).pipe(
        Effect.map((text) => text.trim()),
        Effect.catch((problem) =>
          Effect.as(log.warn("cannot read the boot id", { reason: "host-unreadable", detail: problem }), undefined)
        )
      )
    })
  )

  /** A host whose facts its maker holds: `facts` is read at each use and may change. */
  static readonly layerMemory = (
    facts: { readonly uptimeSeconds: number; readonly bootId: string | undefined }
  ): Layer.Layer<Facts> =>
    Layer.succeed(
      Facts,
      Facts.of({
        uptimeSeconds: Effect.sync(() => facts.uptimeSeconds),
        bootId: Effect.sync(() => facts.bootId)
      })
    )
}
