/**
 * Where a message goes at the far side: the first rule whose filter matches its topic, else as it is, to `amq.topic`
 * with its own key. Pure. What was found for a topic is remembered.
 */
import { swapSeparators } from '../core/topic.ts'
import { capturesOf, fillTemplate, parseTemplate, type Template } from '../lib/template.ts'
import type { Target } from './link.ts'
import type { MapRule } from './settings.ts'

/** Names of holes that are no captures. */
export const NAMED_HOLES: readonly string[] = ['topic', 'key', 'exchange']
export const DEFAULT_EXCHANGE = 'amq.topic'
const REMEMBERED_MAX = 10_000

interface Rule {
  readonly filter: string
  readonly exchange: Template
  readonly key: Template
  readonly headers: readonly (readonly [name: string, value: Template])[]
}

export class Mapping {
  readonly #rules: readonly Rule[]
  /** By exchange and topic. */
  readonly #remembered: Map<string, Target>

  /** Throws for a template that is none: the configuration has refused those. */
  constructor(rules: readonly MapRule[]) {
    this.#rules = rules.map(ruleOf)
    this.#remembered = new Map()
  }

  /** `topic` with `/`; `exchange`: the one of ours that it was published to. */
  targetOf(topic: string, exchange: string): Target {
    const name = `${exchange}\0${topic}`
    const known = this.#remembered.get(name)
    if (known !== undefined) return known
    const target = this.#find(topic, exchange)
    if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear()
    this.#remembered.set(name, target)
    return target
  }

  #find(topic: string, exchange: string): Target {
    for (const rule of this.#rules) {
      const captures = capturesOf(rule.filter, topic)
      if (captures !== null) return fill(rule, captures, topic, exchange)
    }
    return { exchange: DEFAULT_EXCHANGE, key: swapSeparators(topic), headers: [] }
  }
}

function ruleOf({ filter, exchange, key, headers }: MapRule): Rule {
  return {
    filter,
    exchange: templateOf(exchange),
    key: templateOf(key),
    headers: Object.entries(headers).map(([name, value]) => [name, templateOf(value)] as const)
  }
}

function templateOf(text: string): Template {
  const template = parseTemplate(text)
  if (typeof template === 'string') throw new TypeError(template)
  return template
}

function fill(rule: Rule, captures: readonly string[], topic: string, exchange: string): Target {
  const textOf = (name: string): string => {
    if (name === 'topic') return topic
    if (name === 'key') return swapSeparators(topic)
    return name === 'exchange' ? exchange : captures[Number(name) - 1]!
  }
  // In a key levels stand between dots, those inside a capture of `#` too.
  const inKey = (name: string) => (name === 'key' ? textOf(name) : swapSeparators(textOf(name)))
  return {
    exchange: fillTemplate(rule.exchange, textOf),
    key: fillTemplate(rule.key, inKey),
    headers: rule.headers.map(([name, value]) => [name, fillTemplate(value, textOf)] as const)
  }
}
