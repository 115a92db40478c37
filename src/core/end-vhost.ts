/** The end of a virtual host: live and at replay. */
import type { State } from './state.ts'
import type { Vhost } from './vhost.ts'

/** With all that it holds; never `/`. */
export function removeVhost(state: State, vhost: Vhost): void {
  for (const session of [...vhost.sessions.values()]) state.endSession(session)
  for (const group of [...vhost.groups.values()]) state.removeGroup(group)
  for (const queue of [...vhost.queues.values()]) state.removeQueue(queue)
  for (const entry of [...vhost.retained.tree.entries()]) {
    if (entry.value !== null) state.clearRetained(vhost.name, entry.value.topic)
  }
  for (const orphan of state.orphanWills.values()) {
    if (orphan.vhost === vhost.name) state.orphanWills.delete(orphan.sessionId)
  }
  for (const exchange of vhost.exchanges.values()) {
    exchange.detach()
    if (exchange.delay !== null) state.delays.remove(exchange.delay)
    if (exchange.cache !== null) state.deduplication.end(exchange.cache.id)
  }
  // Whoever still walks over it finds nothing.
  vhost.exchanges.clear()
  vhost.policies.clear()
  vhost.operatorPolicies.clear()
  vhost.bindingCount = 0
  state.vhosts.delete(vhost.name)
}
