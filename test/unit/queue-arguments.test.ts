/** The arguments of queue.declare: RabbitMQ's checks and texts, and what they come to mean. */
import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../src/core/errors.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import { checkQueueArguments, isQueueArgument } from '../../src/core/queue-arguments.ts'
import { declaredOptions, queueOptions, withSettings } from '../../src/core/queue-options.ts'

const FLAGS = { isDurable: true, isExclusive: false, isAutoDelete: false, isConfigured: false }
const long = (value: number): FieldValue => ({ type: 'l', value: BigInt(value) })
const text = (value: string): FieldValue => ({ type: 'S', value })
const no: FieldValue = { type: 't', value: false }

function refusalOf(...table: [string, FieldValue][]): string {
  try {
    checkQueueArguments(table, 'q', '/')
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error
    expect(error.code).toBe('argumentInvalid')
    return error.message.replace(" for queue 'q' in vhost '/'", '')
  }
  return ''
}

describe('an argument that makes no sense is refused in RabbitMQ’s words', () => {
  test.each<[string, FieldValue, string]>([
    ['x-expires', long(0), '{value_zero,0}'],
    ['x-expires', long(-1), '{value_negative,-1}'],
    ['x-expires', text('5'), '"expected integer, got longstr"'],
    ['x-message-ttl', long(-1), '{value_negative,-1}'],
    ['x-message-ttl', { type: 'd', value: 1.5 }, '"expected integer, got double"'],
    ['x-dead-letter-exchange', long(1), '{unacceptable_type,long}'],
    ['x-dead-letter-routing-key', text('k'), 'routing_key_but_no_dlx_defined'],
    ['x-dead-letter-routing-key', no, '{unacceptable_type,bool}'],
    ['x-dead-letter-strategy', text('maybe'), 'invalid_dlx_strategy'],
    ['x-max-length', long(-5), '{value_negative,-5}'],
    ['x-max-length-bytes', no, '"expected integer, got bool"'],
    ['x-max-priority', long(256), '{max_value_exceeded,256}'],
    ['x-overflow', text('drop-tail'), 'invalid_overflow'],
    ['x-queue-mode', text('eager'), 'invalid_queue_mode'],
    ['x-queue-version', long(3), '"unsupported queue version 3"'],
    ['x-single-active-consumer', long(1), '{unacceptable_type,long}'],
    ['x-queue-type', text('fancy'), '"unsupported queue type \'fancy\'"'],
    ['x-delivery-limit', long(-2), '{value_negative,-2}'],
    ['x-message-deduplication', text('yes'), '{unacceptable_type,longstr}'],
    ['x-cache-size', long(0), '{value_zero,0}']
  ])('%s %o: %s', (name, value, wrong) => {
    expect(refusalOf([name, value])).toBe(`invalid arg '${name}': ${wrong}`)
  })
})

test('arguments of a cluster and notes of the client’s own are taken and mean nothing', () => {
  const table: FieldTable = [
    ['x-queue-master-locator', text('min-masters')],
    ['x-queue-leader-locator', text('balanced')],
    ['x-quorum-initial-group-size', long(3)],
    ['x-queue-mode', text('lazy')],
    ['x-queue-version', long(2)],
    ['x-mine', long(-1)]
  ]
  checkQueueArguments(table, 'q', '/')
  expect(queueOptions(FLAGS, table)).toEqual({ ...queueOptions(FLAGS, []), arguments: table })
  expect(isQueueArgument('x-mine')).toBe(false)
  expect(isQueueArgument('x-queue-mode')).toBe(true)
})

test('every argument that changes what happens to messages has its field', () => {
  const options = queueOptions(FLAGS, [
    ['x-message-ttl', long(0)],
    ['x-expires', { type: 'u', value: 60_000 }],
    ['x-max-length', { type: 'b', value: 5 }],
    ['x-max-length-bytes', long(1_000)],
    ['x-overflow', text('reject-publish-dlx')],
    ['x-dead-letter-exchange', text('')],
    ['x-dead-letter-routing-key', text('dead')],
    ['x-max-priority', { type: 'I', value: 9 }],
    ['x-single-active-consumer', { type: 't', value: true }],
    ['x-delivery-limit', long(3)],
    ['x-consumer-timeout', long(1_800_000)],
    ['x-queue-type', text('quorum')],
    ['x-message-deduplication', { type: 't', value: true }],
    ['x-cache-size', long(100)],
    ['x-cache-ttl', long(1_000)]
  ])
  expect(options).toMatchObject({
    messageTtlMs: 0,
    expiresMs: 60_000,
    messagesMax: 5,
    bytesMax: 1_000,
    isBounded: true,
    overflow: 'reject-publish-dlx',
    deadLetterExchange: '',
    deadLetterKey: 'dead',
    priorityMax: 9,
    hasSingleActiveConsumer: true,
    deliveryLimit: 3,
    consumerTimeoutMs: 1_800_000,
    type: 'quorum',
    deduplicates: true
  })
})

test('queues without arguments share their options', () => {
  expect(queueOptions(FLAGS, [])).toBe(queueOptions({ ...FLAGS }, []))
  expect(queueOptions(FLAGS, []).isBounded).toBe(false)
})

test('a recorded argument that makes no sense any more stands for nothing', () => {
  const table: FieldTable = [
    ['x-max-length', long(-1)],
    ['x-overflow', text('drop-tail')],
    ['x-message-ttl', text('soon')]
  ]
  expect(queueOptions(FLAGS, table)).toEqual({ ...queueOptions(FLAGS, []), arguments: table })
})

test('a policy’s settings hold, and the declaration is kept beside them', () => {
  const declared = queueOptions(FLAGS, [['x-max-length', long(5)]])
  const merged = withSettings(declared, { messagesMax: 3, deadLetterExchange: 'dlx' })
  expect(merged).toMatchObject({ messagesMax: 3, isBounded: true, deadLetterExchange: 'dlx' })
  expect(declaredOptions(merged)).toBe(declared)
  expect(declaredOptions(declared)).toBe(declared)
})
