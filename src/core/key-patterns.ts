/** RabbitMQ's topic permissions of one principal as one client, compiled; what is kept is bounded. */
import type { Access, Principal, TopicPermission } from './principal.ts'
import { swapSeparators } from './topic.ts'

/** Keys for which the answers of one exchange are kept. */
const KEYS_MAX = 1_000
const CLIENT_ID = '{client_id}'

interface Compiled {
  /** Null: no valid expression, which nothing matches. */
  readonly patterns: Readonly<Record<Access, RegExp | null>>
  readonly answers: Readonly<Record<Access, Map<string, boolean>>>
}

export function hasClientId(permission: TopicPermission): boolean {
  return permission.write.includes(CLIENT_ID) || permission.read.includes(CLIENT_ID)
}

export class KeyPatterns {
  readonly #byExchange: Map<string, Compiled>

  constructor(principal: Principal, clientId: string) {
    this.#byExchange = new Map()
    const fill = (pattern: string): RegExp | null => {
      const names = { username: principal.name, vhost: principal.vhost, client_id: clientId }
      return compile(fillIn(pattern, names))
    }
    for (const { exchange, write, read } of principal.topicPermissions) {
      const patterns = { write: fill(write), read: fill(read) }
      this.#byExchange.set(exchange, { patterns, answers: { write: new Map(), read: new Map() } })
    }
  }

  /** An exchange without a permission of its own is free. */
  test(access: Access, exchange: string, topic: string): boolean {
    const compiled = this.#byExchange.get(exchange)
    if (compiled === undefined) return true
    const answers = compiled.answers[access]
    let answer = answers.get(topic)
    if (answer === undefined) {
      answer = compiled.patterns[access]?.test(swapSeparators(topic)) ?? false
      if (answers.size >= KEYS_MAX) answers.clear()
      answers.set(topic, answer)
    }
    return answer
  }
}

function fillIn(pattern: string, names: Readonly<Record<string, string>>): string {
  let filled = pattern
  for (const [name, value] of Object.entries(names)) {
    const literal = value.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
    filled = filled.replaceAll(`{${name}}`, () => literal)
  }
  return filled
}

function compile(pattern: string): RegExp | null {
  try {
    return new RegExp(pattern === '' ? '^$' : pattern)
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}
