/** All that lasts in a broker, as text to compare: what a restart must bring back. */
import type { Broker } from '../../src/broker/broker.ts'
import type { Exchange } from '../../src/core/exchange.ts'
import type { Queue } from '../../src/core/queue.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_QOS,
  ENTRY_RETAIN,
  ENTRY_STATE,
  RELEASED
} from '../../src/core/queue-entry.ts'

const KEPT = ENTRY_EXPIRES | ENTRY_HAS_IDS | ENTRY_QOS | ENTRY_RETAIN

/** Entries with their state: what was delivered is ready again after a start. Cold ones by count. */
function entriesOf(queue: Queue): string[] {
  const lines: string[] = []
  for (let at = queue.after(0); at > 0; at = queue.after(at)) {
    const isReleased = (queue.flags & ENTRY_STATE) === RELEASED
    lines.push(`${at} ${queue.bytes} ${queue.flags & KEPT}${isReleased ? ' released' : ''}`)
  }
  return lines
}

export function dumpOf(broker: Broker): string[] {
  const lines: string[] = []
  const { state } = broker
  for (const queue of state.queues.values()) {
    if (!queue.isDurable) continue
    const { id, name, isSession, count, nextSequence } = queue
    const kind = isSession ? 'session queue' : 'queue'
    lines.push(`${kind} ${id} ${name}: ${count} of ${nextSequence}`)
    for (const entry of entriesOf(queue)) lines.push(`entry ${id} ${entry}`)
  }
  for (const session of state.sessions.values()) {
    if (!session.isLasting) continue
    const { id, clientId, expirySeconds, inbound, will } = session
    lines.push(`session ${id} ${clientId} ${expirySeconds} ${will?.topic ?? ''}`)
    for (const packetId of inbound?.keys() ?? []) lines.push(`inbound ${id} ${packetId}`)
    for (const { filter, qos, identifier } of session.subscriptions.values()) {
      lines.push(`subscription ${id} ${filter} ${qos} ${identifier}`)
    }
  }
  for (const orphan of state.orphanWills.values()) lines.push(`orphan will ${orphan.clientId}`)
  for (const user of state.users.values()) lines.push(`user ${JSON.stringify(user)}`)
  for (const vhost of state.vhosts.values()) {
    for (const { value } of vhost.retained.tree.entries()) {
      if (value !== null) lines.push(`retained ${value.topic} ${value.sequence} ${value.bytes}`)
    }
    for (const exchange of vhost.exchanges.values()) {
      if (!exchange.isDurable) continue
      lines.push(`exchange ${exchange.name} ${exchange.kind}`)
      exchange.forEachBinding(({ target, key }) => {
        const to = target as Queue | Exchange
        if (to.isDurable) lines.push(`binding ${exchange.name} ${key} ${to.name}`)
      })
    }
  }
  return lines.sort()
}
