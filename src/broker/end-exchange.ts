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
  if (exchange.delay !== null) endDelay(broker, exchange.delay)
  broker.state.removeExchange(vhost.name, exchange)
  let ticket = 0
  if (exchange.isDurable && !broker.journal.failed) {
    writeExchangeName(broker.writer, vhost.name, exchange.name)
    ticket = append(broker, KIND.exchangeDelete, AWAITED)
  }
  endUnused(broker, vhost)
  return ticket
}

/** Auto-delete exchanges go with their last binding: whatever took it away. */
export function endUnused(broker: Broker, vhost: Vhost): void {
  for (const exchange of vhost.exchanges.values()) {
    if (!exchange.isAutoDelete || !exchange.hadBindings || exchange.bindingCount > 0) continue
    // It looks again by itself: others may have been bound to this one.
    endExchange(broker, vhost, exchange)
    return
  }
}
