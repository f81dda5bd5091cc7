/**
 * The three functions of the Reflect Metadata proposal that `@peculiar/x509` asks for when it is loaded. Imported for its
 * effect, before that package.
 */
const metadata = new WeakMap<object, Map<unknown, unknown>>()

function own(target: object): Map<unknown, unknown> {
  const known = metadata.get(target)
  if (known !== undefined) return known
  const created = new Map<unknown, unknown>()
  metadata.set(target, created)
  return created
}

function inherited(key: unknown, target: object): unknown {
  for (let at: object | null = target; at !== null; at = Reflect.getPrototypeOf(at)) {
    if (own(at).has(key)) return own(at).get(key)
  }
  return undefined
}

Object.assign(Reflect, {
  defineMetadata: (key: unknown, value: unknown, target: object) => {
    own(target).set(key, value)
  },
  getOwnMetadata: (key: unknown, target: object) => own(target).get(key),
  getMetadata: inherited
})
