/** A program that signs as the hook's contract says, with the key in a file: what a TPM's wrapper would be. */
export const signWrapper = `
const { createPrivateKey, sign } = require("node:crypto"), fs = require("node:fs")
const key = createPrivateKey(fs.readFileSync(process.argv[2]))
const digest = key.asymmetricKeyType === "ed25519" ? null : "sha256"
const signature = sign(digest, fs.readFileSync(process.env.NIXFLEET_INPUT), { key, dsaEncoding: "ieee-p1363" })
fs.writeFileSync(process.env.NIXFLEET_OUTPUT, signature)
`
