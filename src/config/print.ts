/** The effective options as text: each with its value and where it came from. Secrets are left out. */
import type { BridgeOption } from './bridge-option.ts'
import type { ListenerOption } from './listener-url.ts'
import type { LoadedOptions } from './load.ts'
import { NAMED_OPTIONS } from './options.ts'
import type { UserOption } from './structures.ts'

const COMMENT_COLUMN = 48

/** Reads as YAML; hashes of passwords are hidden, so it is not quite a config file. */
export function printOptions(loaded: LoadedOptions): string {
  const lines: string[] = []
  let groups: readonly string[] = []
  for (const { key, path } of NAMED_OPTIONS) {
    const parents = path.slice(0, -1)
    for (let depth = 0; depth < parents.length; depth++) {
      if (groups[depth] !== parents[depth]) lines.push(`${'  '.repeat(depth)}${parents[depth]}:`)
    }
    groups = parents
    const indent = '  '.repeat(parents.length)
    const source = loaded.sources.get(key)!
    const value = valueAt(loaded.options, path)
    const name = `${indent}${path.at(-1)}:`
    if (!Array.isArray(value)) lines.push(comment(`${name} ${JSON.stringify(value)}`, source))
    else if (value.length === 0) lines.push(comment(`${name} []`, source))
    else {
      lines.push(comment(name, source))
      for (const item of value) lines.push(`${indent}  - ${JSON.stringify(printable(key, item))}`)
    }
  }
  const { firstUser } = loaded.options
  if (firstUser !== null) {
    lines.push(
      `# first user, made when there is none: ${JSON.stringify(firstUser.name)} (MOTEMQ_USER)`
    )
  }
  return `${lines.join('\n')}\n`
}

function valueAt(options: object, path: readonly string[]): unknown {
  let value: unknown = options
  for (const name of path) value = (value as Record<string, unknown>)[name]
  return value
}

function comment(line: string, source: string): string {
  return `${line.padEnd(COMMENT_COLUMN)} # ${source}`
}

/** A thing of a list in the shape in which a file has it. */
function printable(key: string, item: unknown): unknown {
  if (key === 'listeners') {
    return printableListener(item as ListenerOption)
  }
  if (key === 'bridges') {
    const { password, ...rest } = item as BridgeOption
    return password === '' ? rest : { ...rest, password: '(hidden)' }
  }
  if (key === 'users') {
    const { name, tags, topics, resources, passwordHash } = item as UserOption
    const hidden = passwordHash === '' ? '' : '(hidden)'
    return { name, tags, passwordHash: hidden, topics, permissions: resources }
  }
  return item
}

function printableListener(listener: ListenerOption): unknown {
  const { insecure, vhost, origins, proxyFrom, unixPath, mode, path, tls } = listener
  const rights = unixPath === '' ? '' : `?mode=0${mode.toString(8)}`
  const url = `${listener.url}${path}${rights}`
  const settings = {
    ...(insecure ? { insecure } : {}),
    ...(vhost === '' ? {} : { vhost }),
    ...(origins === null ? {} : { origins }),
    ...(proxyFrom.length === 0 ? {} : { proxyProtocol: { from: proxyFrom } }),
    ...(tls === null ? {} : { tls })
  }
  return Object.keys(settings).length === 0 ? url : { url, ...settings }
}
