/** What a stream is refused for, in RabbitMQ's words. */
import { BrokerError } from '../core/errors.ts'
import { type FieldTable, fieldOf } from '../core/field-table.ts'
import type { Queue } from '../core/queue.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Broker } from './broker.ts'

/** What of a declaration a stream may not have. */
interface Declaration {
  readonly name: string
  readonly durable: boolean
  readonly exclusive: boolean
  readonly autoDelete: boolean
  readonly arguments: FieldTable
}

/** A stream lasts, is nobody's alone, and has the name that its declaration gave. */
export function checkStream(
  broker: Broker,
  vhost: Vhost,
  request: Declaration,
  name: string
): void {
  if (fieldOf(request.arguments, 'x-queue-type')?.value !== 'stream') return
  const about = { kind: 'queue', name, vhost: vhost.name }
  if (broker.streamFiles === null) {
    throw new BrokerError('notImplemented', 'this broker keeps no streams', about)
  }
  if (request.name === '') {
    const message = 'Cannot declare a server-named queue for type rabbit_stream_queue'
    throw new BrokerError('preconditionFailed', message, about)
  }
  const wrong = !request.durable
    ? 'non-durable'
    : request.autoDelete
      ? 'auto-delete'
      : request.exclusive
        ? 'exclusive-owner'
        : ''
  if (wrong === '') return
  const message = `invalid property '${wrong}' for queue '${name}' in vhost '${vhost.name}'`
  throw new BrokerError('preconditionFailed', message, about)
}

/** `what` is a method that a stream has no meaning for. */
export function notOfStreams(what: string, queue: Queue): BrokerError {
  const { name, vhost } = queue
  return new BrokerError(
    'notImplemented',
    `${what} not supported by stream queues queue '${name}' in vhost '${vhost}'`,
    { kind: 'queue', name, vhost }
  )
}

/** A stream's consumer says how much it takes at once. */
export function noPrefetch(queue: Queue): BrokerError {
  const { name, vhost } = queue
  const message = `consumer prefetch count is not set for 'queue '${name}' in vhost '${vhost}''`
  return new BrokerError('preconditionFailed', message, { kind: 'queue', name, vhost })
}
