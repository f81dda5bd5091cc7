/** `nixfleet closure pack`: a directory becomes an archive that hosts without Nix can activate. */
import { Console, Effect, Path } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { packClosure } from "../../Layers/Host/ArchivePack.ts"
import { failed } from "../Failure.ts"
import { jsonFlag, printJson } from "../Output.ts"

const input = {
  directory: Argument.String("directory").pipe(
    Argument.withDescription("What the closure holds; bin/switch-to-configuration makes it the running system")
  ),
  name: Flag.String("name").pipe(Flag.withDescription("The part of the closure's name after its hash")),
  out: Flag.String("out").pipe(
    Flag.withAlias("o"),
    Flag.withDescription("Directory for <closure>.tar, such as the one that agents fetch from")
  ),
  json: jsonFlag
}

export const closurePack = Command.make(
  "pack",
  input,
  Effect.fnUntraced(function*({ directory, json, name, out }) {
    const paths = yield* Path.Path
    const closure = yield* Effect.mapError(packClosure(directory, name, out), (error) => failed(error.message))
    yield* json ? printJson({ closure, archive: paths.join(out, `${closure}.tar`) }) : Console.log(closure)
  })
).pipe(Command.withDescription("Pack a directory into a closure archive and print the closure's name"))
