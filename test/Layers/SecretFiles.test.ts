import { assert, describe, it } from "@effect/vitest"
import { isExposed } from "../../src/Layers/SecretFiles.ts"

const [root, service, other] = [0, 64_001, 1000]

describe("a file with a secret", () => {
  it.each<[string, number, number, number, boolean]>([
    ["/k", 0o600, service, service, false],
    ["/k", 0o400, root, root, false],
    ["/k", 0o700, service, service, false],
    ["/k", 0o640, service, service, true],
    ["/k", 0o640, root, root, true],
    ["/k", 0o604, service, service, true],
    ["/k", 0o610, service, service, true],
    ["/k", 0o100_600, root, root, false],
    // Lent by root, or by somebody else, to the group of a service.
    ["/k", 0o640, root, service, false],
    ["/k", 0o440, other, service, false],
    ["/k", 0o660, root, service, true],
    ["/k", 0o644, root, service, true],
    ["/k", 0o601, root, service, true],
    // The mask of an access list.
    ["/run/credentials/nixfleet-control-plane.service/key_tls.pem", 0o440, root, root, false],
    ["/run/credentials/../../etc/tls.pem", 0o440, root, root, true],
    ["/run/credentials/tls.pem", 0o444, root, root, true]
  ])(
    "%s of mode %o, of user %d, for %d: exposed %s",
    (file, mode, uid, reader, exposed) => assert.strictEqual(isExposed(file, { mode, uid }, reader), exposed)
  )
})
