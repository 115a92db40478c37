/** What a state without a broker holds, as sorted lines. */
import type { Exchange } from '../../src/core/exchange.ts'
import type { Queue } from '../../src/core/queue.ts'
import type { State } from '../../src/core/state.ts'

export function lastingLines(state: State): string[] {
  const lines: string[] = []
  for (const { id, name, options, isSession, count, nextSequence } of state.queues.values()) {
    const names = options.arguments.map(([argument]) => argument)
    const about = isSession
      ? ''
      : `${name} ${options.isAutoDelete} ${options.isConfigured} ${names} `
    lines.push(`${isSession ? 'session queue' : 'queue'} ${id} ${about}${count} of ${nextSequence}`)
  }
  for (const session of state.sessions.values()) {
    const { id, clientId, user, version, expirySeconds, endsAt, will, inbound } = session
    const about = will === null ? '' : ` ${will.topic} ${will.payload} ${will.delaySeconds}`
    lines.push(`session ${id} ${clientId} ${user} ${version} ${expirySeconds} ${endsAt}${about}`)
    if (inbound !== null && inbound.size > 0) {
      lines.push(`inbound ${id} ${[...inbound.keys()].filter(each => each !== 0)}`)
    }
    for (const each of session.subscriptions.values()) {
      const { filter, qos, noLocal, retainAsPublished, retainHandling, identifier } = each
      lines.push(
        `subscription ${id} ${filter} ${qos} ${noLocal} ${retainAsPublished} ${retainHandling} ${identifier}`
      )
    }
  }
  for (const { clientId, user, will } of state.orphanWills.values()) {
    lines.push(`orphan ${clientId} ${user} ${will.topic} ${will.payload} ${will.qos}`)
  }
  for (const user of state.users.values()) lines.push(`user ${JSON.stringify(user)}`)
  for (const vhost of state.vhosts.values()) {
    for (const { value } of vhost.retained.tree.entries()) {
      if (value === null) continue
      const { topic, sequence, bytes, flags } = value
      lines.push(`retained ${topic} ${sequence} ${bytes} ${flags >>> 16}`)
    }
    for (const exchange of vhost.exchanges.values()) {
      const { name, type, isAutoDelete, arguments: table } = exchange
      if (name !== '' && !name.startsWith('amq.')) {
        lines.push(
          `exchange ${name} ${type} ${isAutoDelete} ${table.map(([argument]) => argument)}`
        )
      }
      exchange.forEachBinding(binding => {
        const target = binding.target as Queue | Exchange
        const names = JSON.stringify(binding.arguments.map(([argument]) => argument))
        lines.push(`binding ${name} ${binding.key} ${target.name} ${names}`)
      })
    }
  }
  return lines.sort()
}
