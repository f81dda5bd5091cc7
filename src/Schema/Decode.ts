/**
 * Decoders as plain total functions, for the pure floors above: no Effect, no exception, one sentence when it did not work.
 */
import { Result, Schema } from "effect"

/** A value of the wanted shape, or what is wrong and where. Rejected values are never repeated: they may be secrets. */
export type Decoded<A> =
  | { readonly ok: true; readonly value: A }
  | { readonly ok: false; readonly problem: string }

/** Unknown fields are ignored, as everywhere on the wire (D19). */
export function decoder<S extends Schema.ConstraintDecoder<unknown>>(
  schema: S
): (input: unknown) => Decoded<S["Type"]> {
  const decode = Schema.decodeUnknownResult(schema)
  return (input) => flatten(decode(input))
}

/** Unknown fields are refused, as in every file that a person writes (D19); all problems are told at once. */
export function strictDecoder<S extends Schema.ConstraintDecoder<unknown>>(
  schema: S
): (input: unknown) => Decoded<S["Type"]> {
  const decode = Schema.decodeUnknownResult(schema, { onExcessProperty: "error", errors: "all" })
  return (input) => flatten(decode(input))
}

function flatten<A>(result: Result.Result<A, Schema.SchemaError>): Decoded<A> {
  return Result.match(result, {
    onSuccess: (value): Decoded<A> => ({ ok: true, value }),
    onFailure: (error): Decoded<A> => ({ ok: false, problem: error.message })
  })
}
