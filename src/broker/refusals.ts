/**
 * What queues, exchanges and bindings are refused for: a right that is missing, a full disk, a name that is
 * reserved or not there. Cold: a refusal is a thrown `BrokerError`.
 */
import { BrokerError } from '../core/errors.ts'
import { mayResource, type ResourceAccess } from '../core/permissions.ts'
import type { Principal } from '../core/principal.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Broker } from './broker.ts'

export function may(
  principal: Principal | null,
  access: ResourceAccess,
  kind: 'queue' | 'exchange',
  name: string,
  vhost: Vhost
): void {
  if (principal === null || mayResource(principal, access, name)) return
  const what = `${access} access to ${kind} '${name}' in vhost '${vhost.name}'`
  throw new BrokerError('notAuthorized', `${what} refused for user '${principal.name}'`, {
    kind,
    name,
    vhost: vhost.name
  })
}

export function checkDisk(broker: Broker): void {
  if (broker.refusal === 0) return
  const code = broker.journal.failed ? 'journalFailed' : 'diskAlarm'
  throw new BrokerError(code, 'nothing durable can be declared: the disk is full or failed')
}

/** What a restart would bring back is not taken away: a full disk is no reason, a failed journal is. */
export function checkJournal(broker: Broker): void {
  if (broker.journal.failed) checkDisk(broker)
}

export function notFound(kind: string, name: string, vhost: Vhost): BrokerError {
  const message = `no ${kind} '${name}' in vhost '${vhost.name}'`
  return new BrokerError('notFound', message, { kind, name, vhost: vhost.name })
}

export function reserved(kind: string, name: string, vhost: Vhost, prefix = 'amq.*'): BrokerError {
  const message =
    name === ''
      ? 'operation not permitted on the default exchange'
      : `${kind} name '${name}' contains reserved prefix '${prefix}'`
  return new BrokerError('reserved', message, { kind, name, vhost: vhost.name })
}

export function precondition(kind: string, name: string, vhost: Vhost, why: string): BrokerError {
  const message = `${kind} '${name}' in vhost '${vhost.name}' ${why}`
  return new BrokerError('preconditionFailed', message, { kind, name, vhost: vhost.name })
}

export function quota(what: string, vhost: Vhost): BrokerError {
  const message = `no more ${what} in vhost '${vhost.name}': the limit is reached`
  return new BrokerError('quotaExceeded', message, { kind: what, name: '', vhost: vhost.name })
}
