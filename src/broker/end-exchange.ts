/** The end of an exchange, also of those that go with their last binding. */
import type { Exchange } from '../core/exchange.ts'
import { writeExchangeName } from '../core/records/definitions.ts'
import { KIND } from '../core/records/kinds.ts'
import type { Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { endDelay } from './hold-back.ts'

/** Returns the ticket of the record, 0 when the exchange was not on the disk. */
export function endExchange(broker: Broker, vhost: Vhost, exchange: Exchange): number {
  const ticket = end(broker, vhost, exchange)
  endUnused(broker, vhost)
  return ticket
}

function end(broker: Broker, vhost: Vhost, exchange: Exchange): number {
  if (exchange.delay !== null) endDelay(broker, exchange.delay)
  broker.state.removeExchange(vhost.name, exchange)
  if (!exchange.isDurable || broker.journal.failed) return 0
  writeExchangeName(broker.writer, vhost.name, exchange.name)
  return append(broker, KIND.exchangeDelete, AWAITED)
}

/** Auto-delete exchanges go with their last binding: whatever took it away. */
export function endUnused(broker: Broker, vhost: Vhost): void {
  // Those that fed one which ends come into the set behind it: it is walked to its end while it grows.
  for (const exchange of vhost.unused) {
    vhost.unused.delete(exchange)
    if (exchange.bindingCount === 0) end(broker, vhost, exchange)
  }
}
