/** Values as canonical text of their wire form: what two sides compare when they compare content. */
import { Schema } from "effect"
import { canonicalText, type Json } from "../Trust/CanonicalJson.ts"

/** Equal texts, equal content. */
export const encodedText = <S extends Schema.Codec<unknown, unknown>>(schema: S): (value: S["Type"]) => string => {
  const encode = Schema.encodeSync(Schema.toCodecJson(schema))
  return (value) => canonicalText(JSON.parse(JSON.stringify(encode(value))) satisfies Json)
}
