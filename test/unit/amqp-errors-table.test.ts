/**
 * Every situation that AMQP answers by closing something is named by a test, `R05: ...`, and so is every reply code.
 * The situations are those of RabbitMQ's channel (`rabbit_channel`, `rabbit_amqqueue`, `rabbit_exchange`).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { AmqpError, REPLY } from '../../src/amqp/reply-codes.ts'

const TESTS = fileURLToPath(new URL('..', import.meta.url))

const SITUATIONS: Readonly<Record<string, string>> = {
  R01: 'publish to a missing exchange; consume, get, bind, passive declare of a missing queue: 404',
  R02: 'no queue name where none was declared on the channel: 404',
  R03: 'delete of a missing queue or exchange, unbind of a missing binding: no error',
  R04: 'delete if unused of what is in use, if empty of what is not empty: 406',
  R05: 'a second declaration that differs: 406',
  R06: 'another exclusive flag, or the exclusive queue of another connection: 405',
  R07: 'arguments that are not compared: no error',
  R08: 'an argument of the wrong type or out of its range: 406',
  R09: 'an unknown type of exchange: 406',
  R10: 'a name that begins with amq.: 403',
  R11: 'the default exchange, the deletion of a system exchange, a publish to an internal one: 403',
  R12: 'no permission: 403',
  R13: 'a consumer beside an exclusive one, an exclusive one of a single active consumer: 403',
  R14: 'a consumer tag twice on a channel: 530, of the connection',
  R15: 'an unknown delivery tag: 406',
  R16: 'basic.get of a queue with a single active consumer: 405',
  R17: 'a bad expiration, a foreign user-id: 406',
  R18: 'immediate, prefetch_size, recover without requeue, flow off: 540, of the connection',
  R19: 'transactions and confirms on one channel, commit or rollback without select: 406',
  R20: 'a delivery that stays open for too long: 406',
  R21: 'which right each method asks for'
}

/** What is answered with each code closes a channel, or the whole connection. */
const CHANNEL_CODES = [403, 404, 405, 406]
const CONNECTION_CODES = [320, 501, 502, 503, 504, 505, 530, 540]

const files = readdirSync(TESTS, { recursive: true, encoding: 'utf8' })
const texts = files
  .filter(file => /^(protocol|integration)\/amqp-.*\.test\.ts$/.test(file))
  .map(file => readFileSync(join(TESTS, file), 'utf8'))
const names = texts.flatMap(text =>
  [...text.matchAll(/(['`])((?:(?!\1)[^\\\n]|\\.)*)\1/g)].map(found => found[2]!)
)
const named = new Set(names.flatMap(name => name.match(/\bR\d\d\b/g) ?? []))

describe('what is refused over AMQP', () => {
  it.each(Object.entries(SITUATIONS))('%s stands in the name of a test: %s', id => {
    expect(named).toContain(id)
  })

  it('no test names a situation that is not listed', () => {
    expect(Object.keys(SITUATIONS)).toEqual(expect.arrayContaining([...named]))
  })

  it.each([...CHANNEL_CODES, ...CONNECTION_CODES])('a test looks for reply code %i', code => {
    expect(texts.filter(text => new RegExp(`\\b${code}\\b`).test(text))).not.toEqual([])
  })
})

describe('a reply code', () => {
  it.each(CHANNEL_CODES)('of %i closes a channel', code => {
    expect(new AmqpError(code as typeof REPLY.notFound, '').closesConnection).toBe(false)
  })

  it.each([...CONNECTION_CODES, 506, 541])('of %i closes the connection', code => {
    expect(new AmqpError(code as typeof REPLY.notAllowed, '').closesConnection).toBe(true)
  })

  it('stands with its name before the explanation', () => {
    expect(new AmqpError(REPLY.notFound, "no queue 'q'").message).toBe("NOT_FOUND - no queue 'q'")
  })
})
