/** Virtual hosts: made and ended by operators, the config file and imported definitions. Who asks, may. */
import { removeVhost } from '../core/end-vhost.ts'
import { BrokerError } from '../core/errors.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeVhost, writeVhostEnd } from '../core/records/vhost.ts'
import { DEFAULT_VHOST, Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { endQueue } from './end-queue.ts'
import { endDelay } from './hold-back.ts'
import { publishRouted } from './publish.ts'
import { endSession } from './sessions.ts'
import { Tracer } from './trace.ts'
import { keepWill } from './wills.ts'

const NAME_BYTES_MAX = 255

/** What operators note down about one. */
export interface VhostNotes {
  readonly description: string
  readonly tags: readonly string[]
}

/** Makes a virtual host, or changes the notes of one. Throws `argumentInvalid` and `quotaExceeded`. */
export function putVhost(
  broker: Broker,
  name: string,
  notes: VhostNotes | null = null
): { vhost: Vhost; ticket: number; isNew: boolean } {
  checkName(name)
  const { state } = broker
  const old = state.vhost(name)
  const { description, tags } = notes ?? old ?? { description: '', tags: [] }
  if (old !== null && old.description === description && isSame(old.tags, tags)) {
    return { vhost: old, ticket: broker.definedTicket, isNew: false }
  }
  if (old === null && state.vhosts.size >= broker.limits.vhostsMax) {
    const message = `there are ${state.vhosts.size} virtual hosts already, as many as limits.vhostsMax says`
    throw new BrokerError('quotaExceeded', message, { name })
  }
  if (broker.refusal !== 0) {
    const code = broker.journal.failed ? 'journalFailed' : 'diskAlarm'
    throw new BrokerError(code, 'no virtual host can be made: the disk is full or failed')
  }
  const vhost = old ?? new Vhost(name)
  vhost.description = description
  vhost.tags = [...tags]
  if (old === null) state.addVhost(vhost)
  writeVhost(broker.writer, vhost)
  const ticket = append(broker, KIND.vhost, AWAITED)
  if (old === null) broker.events.emit('vhostCreated', { name })
  return { vhost, ticket, isNew: old === null }
}

/** Every message of the virtual host is traced from now on, or none. Throws `notFound`. */
export function traceVhost(broker: Broker, name: string, isOn: boolean): void {
  const vhost = broker.state.vhost(name)
  if (vhost === null) throw new BrokerError('notFound', `there is no virtual host '${name}'`)
  const old = vhost.tracer as Tracer | null
  if (isOn === (old !== null)) return
  old?.stop()
  const tracer = isOn
    ? new Tracer(broker, vhost, (message, publisher, route) => {
        publishRouted(broker, message, publisher, route)
      })
    : null
  vhost.tracer = tracer
  tracer?.start()
  vhost.forgetRoutes()
}

function checkName(name: string): void {
  const isBad = name === '' || /[\u0000-\u001f\u007f-\u009f]/.test(name)
  if (!isBad && Buffer.byteLength(name) <= NAME_BYTES_MAX) return
  const message = `a virtual host's name has 1 to ${NAME_BYTES_MAX} bytes and no control characters`
  throw new BrokerError('argumentInvalid', message)
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((tag, i) => tag === b[i])
}

/**
 * Ends a virtual host with all that it holds. Its clients are gone by now: the front-ends have closed them.
 * Sessions and queues end as they would one by one, with their records: a crash leaves what was not reached.
 * Throws `notFound`, and `notAllowed` for `/`.
 */
export function deleteVhost(broker: Broker, name: string): number {
  const { state } = broker
  const vhost = state.vhost(name)
  if (vhost === null) throw new BrokerError('notFound', `there is no virtual host '${name}'`)
  if (name === DEFAULT_VHOST) {
    throw new BrokerError('notAllowed', `the virtual host '${DEFAULT_VHOST}' cannot be deleted`)
  }
  if (broker.journal.failed) {
    throw new BrokerError('journalFailed', 'a restart would bring it back: the journal has failed')
  }
  for (const session of [...vhost.sessions.values()]) {
    keepWill(broker, session, null)
    endSession(broker, session, 'virtual host deleted')
  }
  for (const queue of [...vhost.queues.values()]) endQueue(broker, queue)
  for (const { delay } of vhost.exchanges.values()) if (delay !== null) endDelay(broker, delay)
  removeVhost(state, vhost)
  writeVhostEnd(broker.writer, name)
  const ticket = append(broker, KIND.vhostEnd, AWAITED)
  broker.events.emit('vhostDeleted', { name })
  return ticket
}
