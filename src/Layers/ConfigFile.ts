/**
 * A configuration file: JSON, read as strictly as a signed artifact, because a key that stands twice must not silently
 * lose one of its values (D13). Knows no options: `Schema/Options.ts` judges what is in it.
 */
import { Effect } from "effect"
import type { ConfigFile } from "../Schema/Options.ts"
import { parseStrict } from "../Trust/CanonicalJson.ts"
import { readSmallFile } from "./Disk/SmallFile.ts"

/** Total: what is wrong with the file is part of the answer. */
export const readConfigFile = (file: string): Effect.Effect<ConfigFile> =>
  Effect.try({
    try: (): ConfigFile => {
      const parsed = parseStrict(readSmallFile(file))
      return parsed.ok
        ? { _tag: "Read", file, value: parsed.value }
        : { _tag: "Unreadable", file, message: `is not valid JSON: ${parsed.problem.detail}` }
    },
    catch: (cause) => cause instanceof Error ? cause.message : String(cause)
  }).pipe(Effect.catch((message) =>
    Effect.succeed<ConfigFile>({ _tag: "Unreadable", file, message: `cannot be read: ${message}` })
  ))
