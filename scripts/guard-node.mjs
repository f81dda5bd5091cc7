// Every script of this project starts with this check: with `npm ci --ignore-scripts`, or under an npm that blocks
// install scripts, the pinned Node of `node_modules/.bin` is missing and the older Node of the PATH would run instead.
const major = Number(process.versions.node.split(".")[0])
if (major < 24) {
  console.error(
    `nixfleet needs Node 24 or newer and this is ${process.version}: run \`npm ci\` without --ignore-scripts, which installs Node 24 into node_modules.`
  )
  process.exit(1)
}
