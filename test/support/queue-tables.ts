/** The arguments that the replay test's queues are declared with. */
import type { FieldTable } from '../../src/core/field-table.ts'

const TABLES: FieldTable[] = [
  [],
  [['x-max-length', { type: 'I', value: 3 }]],
  [
    ['x-max-length', { type: 'l', value: 5n }],
    ['x-overflow', { type: 'S', value: 'reject-publish' }]
  ],
  [
    ['x-delayed-retry-type', { type: 'S', value: 'all' }],
    ['x-delayed-retry-min', { type: 'I', value: 5_000 }],
    ['x-delayed-retry-max', { type: 'I', value: 30_000 }]
  ]
]

/** Its dead letters go to `full`, and wait while that refuses them. */
const KEEPS: FieldTable = [
  ['x-overflow', { type: 'S', value: 'reject-publish' }],
  ['x-dead-letter-exchange', { type: 'S', value: '' }],
  ['x-dead-letter-routing-key', { type: 'S', value: 'full' }],
  ['x-dead-letter-strategy', { type: 'S', value: 'at-least-once' }]
]

/** For a queue of this name; `b` is any number. */
export function tableOf(name: string, b: number): FieldTable {
  if (name === 'once') {
    const priorities: FieldTable = b % 2 === 0 ? [] : [['x-max-priority', { type: 'I', value: 3 }]]
    return [['x-message-deduplication', { type: 't', value: true }], ...priorities]
  }
  if (name === 'levels')
    return [['x-max-priority', { type: 'I', value: 3 }], ...TABLES[b % TABLES.length]!]
  if (name === 's') return TABLES[3]!
  if (name === 'r') return KEEPS
  return name === 'full' ? TABLES[b % TABLES.length]! : []
}
