/** RabbitMQ's sentences for what is refused: clients and their suites read them. */
import type { Publisher } from '../broker/consumer.ts'
import type { BrokerError } from '../core/errors.ts'
import type { ResourceAccess } from '../core/permissions.ts'
import { AmqpError, REPLY, REPLY_OF } from './reply-codes.ts'

/** `what`: such as `queue 'q'`. */
export function accessRefused(
  publisher: Pick<Publisher, 'principal' | 'vhost'>,
  access: ResourceAccess,
  what: string
): AmqpError {
  const { name } = publisher.principal
  const vhost = publisher.vhost.name
  return new AmqpError(
    REPLY.accessRefused,
    `${access} access to ${what} in vhost '${vhost}' refused for user '${name}'`
  )
}

/** The reply to what the broker refused. */
export function explain(error: BrokerError, vhostName: string): AmqpError {
  return new AmqpError(REPLY_OF[error.code], sentence(error, vhostName))
}

function sentence(error: BrokerError, vhostName: string): string {
  const fields = error.fields
  const kind = String(fields['kind'] ?? 'queue')
  const name = String(fields['name'] ?? '')
  const vhost = String(fields['vhost'] ?? vhostName)
  const it = `${kind} '${name}' in vhost '${vhost}'`
  switch (error.code) {
    case 'notFound':
      return kind === 'vhost' ? `vhost ${name} not found` : `no ${it}`
    case 'locked':
      return (
        `cannot obtain exclusive access to locked ${it}. It could be originally declared on another ` +
        'connection or the exclusive property value does not match that of the original declaration.'
      )
    default:
      return error.message
  }
}
