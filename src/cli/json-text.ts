/**
 * JSON as mosquitto_sub prints it: members in their order and repeated, numbers in C's shortest form that is
 * exact enough, tabs when it is pretty. Text is bytes, a character each: what is no UTF-8 passes through.
 */

export type JsonNode =
  | { readonly kind: 'word'; readonly text: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'array'; readonly items: readonly JsonNode[] }
  | { readonly kind: 'object'; readonly members: readonly (readonly [string, JsonNode])[] }

const DEPTH_MAX = 1_000
const SPACE = /[\x00-\x20]*/y
const NUMBER = /-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?/y
const STRING = /"((?:[^"\\]|\\[\s\S])*)"/y
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  '"': '"',
  '\\': '\\',
  '/': '/'
}

/** Null: it is no JSON. */
export function parseJson(payload: Buffer): JsonNode | null {
  const parser = new Parser(payload.toString('latin1'))
  const node = parser.value(0)
  return node === null || !parser.isAtEnd() ? null : node
}

class Parser {
  private readonly text: string
  private at: number

  constructor(text: string) {
    this.text = text
    this.at = 0
  }

  isAtEnd(): boolean {
    this.match(SPACE)
    return this.at === this.text.length
  }

  value(depth: number): JsonNode | null {
    if (depth > DEPTH_MAX) return null
    this.match(SPACE)
    for (const word of ['null', 'true', 'false']) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length
        return { kind: 'word', text: word }
      }
    }
    const c = this.text[this.at]
    if (c === '"') return this.string()
    if (c === '[') return this.array(depth)
    if (c === '{') return this.object(depth)
    const number = this.match(NUMBER)
    return number === null ? null : { kind: 'number', value: Number(number[0]) }
  }

  private string(): { readonly kind: 'string'; readonly text: string } | null {
    const found = this.match(STRING)
    const text = found === null ? null : unescapeJson(found[1]!)
    return text === null ? null : { kind: 'string', text }
  }

  private array(depth: number): JsonNode | null {
    const items: JsonNode[] = []
    this.at++
    if (this.takes(']')) return { kind: 'array', items }
    do {
      const item = this.value(depth + 1)
      if (item === null) return null
      items.push(item)
    } while (this.takes(','))
    return this.takes(']') ? { kind: 'array', items } : null
  }

  private object(depth: number): JsonNode | null {
    const members: [string, JsonNode][] = []
    this.at++
    if (this.takes('}')) return { kind: 'object', members }
    do {
      this.match(SPACE)
      const name = this.string()
      if (name === null || !this.takes(':')) return null
      const value = this.value(depth + 1)
      if (value === null) return null
      members.push([name.text, value])
    } while (this.takes(','))
    return this.takes('}') ? { kind: 'object', members } : null
  }

  private takes(c: string): boolean {
    this.match(SPACE)
    if (this.text[this.at] !== c) return false
    this.at++
    return true
  }

  private match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.text)
    if (found !== null) this.at += found[0].length
    return found
  }
}

/** Null: an escape that there is not. */
function unescapeJson(text: string): string | null {
  if (!text.includes('\\')) return text
  let isGood = true
  const units = text.replace(
    /((?:\\u[0-9a-fA-F]{4})+)|\\([\s\S])/g,
    (_, unicode: string | undefined, simple: string | undefined) => {
      if (unicode !== undefined) {
        const codes = unicode.match(/[0-9a-fA-F]{4}/g) ?? []
        const decoded = String.fromCharCode(...codes.map(code => Number.parseInt(code, 16)))
        if (/\p{Surrogate}/u.test(decoded)) isGood = false
        return Buffer.from(decoded).toString('latin1')
      }
      const meant = SIMPLE_ESCAPES[simple ?? '']
      if (meant === undefined) isGood = false
      return meant ?? ''
    }
  )
  return isGood ? units : null
}

const NAMED_CONTROLS: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t'
}

/** The inside of a JSON string. */
export function escapeJson(text: string): string {
  return text.replace(
    /["\\\x00-\x1f]/g,
    c => NAMED_CONTROLS[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`
  )
}

/** `depth` tabs before what is inside; -1: all in one line. */
export function printJson(node: JsonNode, depth: number): string {
  switch (node.kind) {
    case 'word':
      return node.text
    case 'number':
      return printNumber(node.value)
    case 'string':
      return `"${escapeJson(node.text)}"`
    case 'array': {
      const inner = depth < 0 ? depth : depth + 1
      return `[${node.items.map(item => printJson(item, inner)).join(depth < 0 ? ',' : ', ')}]`
    }
    default:
      return printObject(node.members, depth)
  }
}

function printObject(members: readonly (readonly [string, JsonNode])[], depth: number): string {
  if (depth < 0) {
    const list = members.map(([name, value]) => `"${escapeJson(name)}":${printJson(value, -1)}`)
    return `{${list.join(',')}}`
  }
  const indent = '\t'.repeat(depth + 1)
  const lines = members.map(
    ([name, value]) => `${indent}"${escapeJson(name)}":\t${printJson(value, depth + 1)}`
  )
  const body = lines.length === 0 ? '' : `${lines.join(',\n')}\n`
  return `{\n${body}${'\t'.repeat(depth)}}`
}

const INT_MAX = 2_147_483_647

function printNumber(value: number): string {
  if (!Number.isFinite(value)) return 'null'
  if (Number.isInteger(value) && Math.abs(value) <= INT_MAX) return String(value === 0 ? 0 : value)
  const short = formatG(value, 15)
  const back = Number(short)
  const scale = Math.max(Math.abs(back), Math.abs(value))
  return Math.abs(back - value) <= scale * Number.EPSILON ? short : formatG(value, 17)
}

/** C's `%.*g`. */
export function formatG(value: number, digits: number): string {
  const [mantissa = '', exponentText = '0'] = value.toExponential(digits - 1).split('e')
  const exponent = Number(exponentText)
  if (exponent < -4 || exponent >= digits) {
    const sign = exponent < 0 ? '-' : '+'
    const size = String(Math.abs(exponent)).padStart(2, '0')
    return `${withoutZeros(mantissa)}e${sign}${size}`
  }
  return withoutZeros(value.toFixed(Math.min(100, Math.max(0, digits - 1 - exponent))))
}

function withoutZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}
