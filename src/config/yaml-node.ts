/**
 * A YAML document as nodes that know their line. Every question about a node answers a value or null
 * and, with null, has put a mistake on the list: callers go on, so that one run shows all mistakes.
 */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument
} from 'yaml'
import { suggest } from '../lib/suggest.ts'
import { type Mistakes, shown } from './mistake.ts'

export const FILE_BYTES_MAX = 1024 * 1024
/** Each use of an anchor counts; nesting is bounded by the keys we know. */
const ALIASES_MAX = 100
/** Deeper than any key of ours; the parser recurses, so this is checked before it runs. */
const DEPTH_MAX = 64

export interface YamlEntry {
  readonly key: string
  readonly keyNode: unknown
  readonly value: unknown
}

export class YamlFile {
  readonly file: string
  readonly #document: Document
  readonly #lines: LineCounter
  readonly #mistakes: Mistakes
  #aliases = 0

  constructor(file: string, document: Document, lines: LineCounter, mistakes: Mistakes) {
    this.file = file
    this.#document = document
    this.#lines = lines
    this.#mistakes = mistakes
  }

  /** Parses; null when the text is no YAML, with the mistakes noted. */
  static parse(file: string, bytes: Uint8Array, mistakes: Mistakes): YamlFile | null {
    const text = readText(file, bytes, mistakes)
    if (text === null) return null
    const lines = new LineCounter()
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false,
      strict: true
    })
    for (const error of document.errors) {
      const what = error.message.split('\n', 1)[0]!
      mistakes.add(`${file}:${lines.linePos(error.pos[0]).line}`, `no valid YAML: ${what}`)
    }
    return document.errors.length > 0 ? null : new YamlFile(file, document, lines, mistakes)
  }

  /** The top of the document; null for an empty one. */
  get root(): unknown {
    const contents = this.#document.contents
    return isScalar(contents) && contents.value === null ? null : contents
  }

  /** `file:line` of a node. */
  where(node: unknown): string {
    const range = (node as Node | null)?.range
    return range ? `${this.file}:${this.#lines.linePos(range[0]).line}` : this.file
  }

  mistake(node: unknown, sentence: string): null {
    this.#mistakes.add(this.where(node), sentence)
    return null
  }

  /** The entries of a map, each key once and one of `known`. */
  entries(node: unknown, name: string, known: readonly string[] | null): YamlEntry[] | null {
    const map = this.resolve(node)
    if (!isMap(map))
      return this.mistake(node, `${name} ${this.#describe(map)}; it is a map of keys`)
    const seen = new Map<string, unknown>()
    const entries: YamlEntry[] = []
    for (const pair of map.items) {
      const key = this.#keyOf(pair.key)
      if (key === null) continue
      if (seen.has(key)) {
        const first = this.where(seen.get(key)).slice(this.file.length + 1)
        this.mistake(pair.key, `the key ${shown(key)} stands here twice, first in line ${first}`)
        continue
      }
      seen.set(key, pair.key)
      if (known !== null && !known.includes(key)) {
        const near = suggest(key, known)
        const hint = near === null ? '' : `; did you mean ${shown(near)}?`
        this.mistake(pair.key, `the key ${shown(key)} is not known${hint}`)
        continue
      }
      const value = pair.value as Node | null
      entries.push({ key, keyNode: pair.key, value: value?.range ? value : pair.key })
      if (value === null || (isScalar(value) && value.value === null)) {
        this.mistake(pair.key, `the key ${shown(key)} has no value; leave it out for the default`)
        entries.pop()
      }
    }
    return entries
  }

  /** The items of a list. */
  items(node: unknown, name: string): unknown[] | null {
    const list = this.resolve(node)
    if (!isSeq(list)) {
      return this.mistake(
        node,
        `${name} ${this.#describe(list)}; it is a list (lines that begin with "- ")`
      )
    }
    return list.items
  }

  /** A scalar's value: text, number or boolean. */
  scalar(node: unknown, name: string): string | number | boolean | null {
    const scalar = this.resolve(node)
    if (isScalar(scalar)) {
      const value = scalar.value
      if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
        return value
      }
    }
    return this.mistake(node, `${name} ${this.#describe(scalar)}; it is a single value`)
  }

  text(node: unknown, name: string): string | null {
    const value = this.scalar(node, name)
    if (value === null || typeof value === 'string') return value
    return this.mistake(node, `${name} is ${shown(value)}, which is no text; put it in quotes`)
  }

  boolean(node: unknown, name: string): boolean | null {
    const value = this.scalar(node, name)
    if (value === null || typeof value === 'boolean') return value
    return this.mistake(node, `${name} is ${shown(value)}, which is neither true nor false`)
  }

  isScalar(node: unknown): boolean {
    return isScalar(this.resolve(node))
  }

  /** What an alias stands for; anything else is itself. */
  resolve(node: unknown): unknown {
    if (!isAlias(node)) return node
    this.#aliases++
    if (this.#aliases > ALIASES_MAX) {
      return this.mistake(node, `more than ${ALIASES_MAX} uses of anchors`)
    }
    return node.resolve(this.#document) ?? null
  }

  #keyOf(node: unknown): string | null {
    const key = this.resolve(node)
    if (isScalar(key) && key.value !== null) return String(key.value)
    return this.mistake(node, 'a key is no plain text')
  }

  #describe(node: unknown): string {
    if (isMap(node)) return 'is a map'
    if (isSeq(node)) return 'is a list'
    if (isScalar(node) && node.value !== null) return `is ${shown(node.value)}`
    return 'has no value'
  }
}

function readText(file: string, bytes: Uint8Array, mistakes: Mistakes): string | null {
  if (bytes.length > FILE_BYTES_MAX) {
    mistakes.add(file, `has ${bytes.length} bytes; a config file has at most ${FILE_BYTES_MAX}`)
    return null
  }
  let text: string
  try {
    // The decoder takes a byte order mark off.
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    mistakes.add(file, 'is no UTF-8 text')
    return null
  }
  const control = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.exec(text)
  if (control !== null) {
    mistakes.add(`${file}:${lineOf(text, control.index)}`, 'holds a control character')
    return null
  }
  const deep = tooDeepAt(text)
  if (deep >= 0) {
    mistakes.add(`${file}:${lineOf(text, deep)}`, 'is nested too deeply')
    return null
  }
  return text
}

function lineOf(text: string, index: number): number {
  let line = 1
  for (let i = text.indexOf('\n'); i >= 0 && i < index; i = text.indexOf('\n', i + 1)) line++
  return line
}

/**
 * Where the nesting surely gets too deep, or -1. Brackets inside texts count too: that many open ones
 * without a closing one are no text of a config file. Block nesting needs indentation, or `- - -`.
 */
function tooDeepAt(text: string): number {
  let open = 0
  let dashes = 0
  let indent = 0
  let atStart = true
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x5b || c === 0x7b) open++
    else if (c === 0x5d || c === 0x7d) open = open > 0 ? open - 1 : 0
    if (c === 0x0a) {
      atStart = true
      indent = 0
      dashes = 0
    } else if (atStart && c === 0x20) indent++
    else if (atStart && (c === 0x2d || c === 0x3f) && text.charCodeAt(i + 1) === 0x20) dashes++
    else atStart = false
    if (open > DEPTH_MAX || dashes > DEPTH_MAX || (!atStart && indent > 16 * DEPTH_MAX)) return i
  }
  return -1
}
