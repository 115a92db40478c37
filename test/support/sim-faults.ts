/** Faults to be found, each planted around the broker's parts by a wrapper. */
import type { Broker } from '../../src/broker/broker.ts'
import { Message } from '../../src/core/message.ts'
import { KIND } from '../../src/core/records/kinds.ts'
import { MessageRecord, readMessage, writeMessage } from '../../src/core/records/message.ts'
import { type Journal, type JournalOwner, LAZY, type Urgency } from '../../src/journal/journal.ts'
import type { Plant } from './sim-broker.ts'

/** A journal of which some members are others. */
function wrapped(journal: Journal, others: Partial<Journal>): Journal {
  return new Proxy(journal, {
    get(target, key) {
      if (Object.hasOwn(others, key)) return Reflect.get(others, key)
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    }
  })
}

/** Every acknowledgement leaves at once. */
export const acknowledgeBeforeSync: Plant = {
  journal: journal =>
    wrapped(journal, {
      get durableTicket() {
        return journal.ticket
      }
    })
}

/** Syncs that do nothing. */
export const syncNothing: Plant = {
  disk: disk => {
    disk.liesAboutSync = true
  }
}

export const syncNoFolder: Plant = {
  disk: disk => {
    disk.liesAboutFolders = true
  }
}

/** The inbound packet identifier is kept in a record of its own, a little later. */
export const identifierApart: Plant = {
  journal: journal => {
    const message = new Message()
    const record = new MessageRecord()
    const end = (kind: number, to: number, urgency: Urgency): number => {
      const from = start
      start = -1
      const isMessage =
        kind === KIND.message && readMessage(journal.buffer, from, to, message, record)
      if (!isMessage || record.sessionId === 0) return journal.end(kind, to, urgency)
      const { sessionId, packetId, retainedSequence, vhost, destinationsStart } = record
      const parts = Buffer.from(journal.buffer.subarray(0, to))
      message.source = parts
      const at = writeMessage(journal.buffer, from, message, 0, retainedSequence, vhost)
      const tail = parts.copy(journal.buffer, at, destinationsStart, to)
      const ticket = journal.end(kind, at + tail, urgency)
      setImmediate(() => setImmediate(() => keepIdentifier(journal, sessionId, packetId)))
      return ticket
    }
    let start = -1
    const begin = (bytesMax: number): number => {
      start = journal.begin(bytesMax)
      return start
    }
    return wrapped(journal, { begin, end })
  }
}

function keepIdentifier(journal: Journal, sessionId: number, packetId: number): void {
  const at = journal.begin(16)
  const { buffer } = journal
  let end = at
  for (let rest = sessionId; ; rest >>>= 7) {
    buffer[end++] = (rest & 127) | (rest > 127 ? 128 : 0)
    if (rest < 128) break
  }
  journal.end(KIND.inbound, buffer.writeUInt16BE(packetId, end), LAZY)
}

/** PUBCOMP leaves before the packet identifier's release is durable. */
export const completeEarly: Plant = {
  journal: journal =>
    wrapped(journal, {
      end: (kind, to, urgency) => {
        const ticket = journal.end(kind, to, kind === KIND.release ? LAZY : urgency)
        return kind === KIND.release ? 0 : ticket
      }
    })
}

/** PUBREL leaves before PUBREC is recorded. */
export const releaseEarly: Plant = {
  journal: journal =>
    wrapped(journal, {
      end: (kind, to, urgency) => {
        const ticket = journal.end(kind, to, kind === KIND.received ? LAZY : urgency)
        return kind === KIND.received ? 0 : ticket
      }
    })
}

/** Replay puts every message at the end of its queue, a compacted copy too. */
export const replayInLogOrder: Plant = {
  owner: (owner, broker) => applying(owner, broker)
}

function applying(owner: JournalOwner, broker: Broker): JournalOwner {
  const { state } = broker
  const insert = state.insertEntry.bind(state)
  return new Proxy(owner, {
    get(target, key) {
      if (key !== 'apply') {
        const value: unknown = Reflect.get(target, key, target)
        return typeof value === 'function' ? value.bind(target) : value
      }
      return (...record: Parameters<JournalOwner['apply']>) => {
        const isMessage = record[0] === KIND.message
        state.insertEntry = (queue, sequence, ...rest) => {
          const isOld = isMessage && sequence < queue.nextSequence && queue.find(sequence)
          if (isOld) state.settleEntry(queue, sequence)
          insert(queue, isOld ? queue.nextSequence : sequence, ...rest)
        }
        const isKnown = target.apply(...record)
        state.insertEntry = insert
        return isKnown
      }
    }
  })
}
