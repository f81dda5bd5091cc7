/** The variables of the environment, as a value that a test can replace. */
import { Context } from "effect"
import { processEnvironment } from "../Layers/ProcessEnvironment.ts"

export const Environment = Context.Reference<Readonly<Record<string, string | undefined>>>(
  "nixfleet/Operator/Environment",
  { defaultValue: processEnvironment }
)
