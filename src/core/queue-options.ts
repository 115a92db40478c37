/** The arguments of queue.declare and what they mean. */
import { BrokerError } from './errors.ts'
import { EMPTY_TABLE, type FieldTable, type FieldValue, integerOf } from './field-table.ts'

export type Overflow = 'drop-head' | 'reject-publish'

/** What a declaration says, with the arguments' meaning (RabbitMQ's names). */
export interface QueueOptions {
  readonly isDurable: boolean
  readonly isExclusive: boolean
  readonly isAutoDelete: boolean
  /** The config file named it. */
  readonly isConfigured: boolean
  /** As declared. */
  readonly arguments: FieldTable
  /** x-max-length; 0 = no bound. */
  readonly messagesMax: number
  /** x-max-length-bytes, of payloads; 0 = no bound. */
  readonly bytesMax: number
  /** x-overflow. */
  readonly overflow: Overflow
}

/** They would change what happens to messages, and are not served yet. */
const NOT_SERVED = new Set([
  'x-message-ttl',
  'x-expires',
  'x-dead-letter-exchange',
  'x-dead-letter-routing-key',
  'x-dead-letter-strategy',
  'x-max-priority',
  'x-single-active-consumer',
  'x-delivery-limit',
  'x-message-deduplication'
])

export interface QueueFlags {
  readonly isDurable: boolean
  readonly isExclusive: boolean
  readonly isAutoDelete: boolean
  readonly isConfigured: boolean
}

/**
 * Throws `argumentInvalid` for a value that makes no sense, and `notImplemented` for an argument that
 * would change what happens to messages and is not served: no such argument is ignored in silence.
 * What RabbitMQ does not know either is the client's own.
 */
export function queueOptions(flags: QueueFlags, table: FieldTable): QueueOptions {
  let messagesMax = 0
  let bytesMax = 0
  let overflow: Overflow = 'drop-head'
  for (const [name, value] of table) {
    if (name === 'x-max-length') messagesMax = whole(name, value)
    else if (name === 'x-max-length-bytes') bytesMax = whole(name, value)
    else if (name === 'x-overflow') overflow = overflowOf(value)
    else if (name === 'x-queue-type') checkQueueType(value)
    else if (NOT_SERVED.has(name)) {
      throw new BrokerError('notImplemented', `queue argument ${name} is not served yet`, {
        argument: name
      })
    }
  }
  return { ...flags, arguments: table, messagesMax, bytesMax, overflow }
}

function whole(name: string, value: FieldValue): number {
  const number = integerOf(value)
  if (number === null || number < 0) {
    throw new BrokerError('argumentInvalid', `invalid arg '${name}'`, { argument: name })
  }
  return number
}

function overflowOf(value: FieldValue): Overflow {
  if (value.type === 'S' && (value.value === 'drop-head' || value.value === 'reject-publish')) {
    return value.value
  }
  if (value.type === 'S' && value.value === 'reject-publish-dlx') {
    throw new BrokerError('notImplemented', 'x-overflow reject-publish-dlx is not served yet', {
      argument: 'x-overflow'
    })
  }
  throw new BrokerError('argumentInvalid', "invalid arg 'x-overflow'", { argument: 'x-overflow' })
}

function checkQueueType(value: FieldValue): void {
  if (value.type === 'S' && (value.value === 'classic' || value.value === 'quorum')) return
  throw new BrokerError('argumentInvalid', "invalid arg 'x-queue-type'", {
    argument: 'x-queue-type'
  })
}

/** The queue of a session: its bounds are the session's. */
export function sessionQueueOptions(isDurable: boolean): QueueOptions {
  return isDurable ? LASTING : PASSING
}

const SESSION = { isExclusive: false, isAutoDelete: false, isConfigured: false }
const LASTING = queueOptions({ ...SESSION, isDurable: true }, EMPTY_TABLE)
const PASSING = queueOptions({ ...SESSION, isDurable: false }, EMPTY_TABLE)
