/** A client of a walk: turns moves into packets, and remembers what it must to answer. */
import mqttPacket, { type Packet } from 'mqtt-packet'
import { INFLIGHT_MAX, LONGEST_SECONDS } from './walks-model.ts'
import type { Action, Will } from './walks-state.ts'
import {
  CLIENTS,
  type ConnectMove,
  FILTERS,
  type PeerMove,
  type PublishMove,
  type SubscribeMove,
  TOPICS
} from './walks-moves.ts'
import { parse, PROPERTIES, propertiesOf, type Seen, textOf } from './walks-packets.ts'
import type { Wire } from './sim-wire.ts'

/** What a move is for the model, and its bytes; `bytes` null: the connection is cut. */
export interface Sending {
  readonly action: Action
  readonly bytes: Buffer | null
}

interface Outgoing {
  readonly packetId: number
  readonly packet: Packet
  readonly action: Extract<Action, { kind: 'publish' }>
  /** The connection that it was sent on. */
  connection: number
  isReceived: boolean
}

/** Payloads are told apart by it. */
export interface Counter {
  next: number
}

export class WalkPeer {
  readonly clientId: string
  wire: Wire | null = null
  version: 4 | 5 = 5
  readonly #counter: Counter
  #connection = 0
  #expirySeconds = 0
  #nextId = 1
  #aliasMaximum = 0
  /** Ours, and the broker's. */
  #aliases = new Map<number, string>()
  readonly #topics = new Map<number, string>()
  /** Packets that wait for our acknowledgement. */
  #pending: { readonly cmd: 'puback' | 'pubrec' | 'pubcomp'; readonly packetId: number }[] = []
  /** QoS 2 on its way to the broker. */
  #outgoing: Outgoing[] = []

  constructor(index: number, counter: Counter) {
    this.clientId = CLIENTS[index]!
    this.#counter = counter
  }

  /** The connection is gone. */
  lose(): void {
    this.wire = null
    this.#pending = []
    this.#aliases.clear()
    this.#topics.clear()
  }

  /** Null: it cannot be done now. */
  plan(move: PeerMove): Sending | null {
    if (this.wire === null && move.kind !== 'connect') return null
    switch (move.kind) {
      case 'connect':
        return this.#connect(move)
      case 'subscribe':
        return this.#subscribe(move)
      case 'unsubscribe': {
        const packetId = this.#id()
        const filter = FILTERS[move.filter]!
        const unsubscriptions = [filter]
        return {
          action: { kind: 'unsubscribe', clientId: this.clientId, packetId, filter },
          bytes: this.#bytes({ cmd: 'unsubscribe', messageId: packetId, unsubscriptions })
        }
      }
      case 'publish':
        return this.#publish(move)
      case 'ack':
        return this.#ack(move.which, move.refuses)
      case 'release':
        return this.#release(move.which, move.again)
      case 'disconnect':
        return this.#disconnect(move)
    }
  }

  #bytes(packet: Packet): Buffer {
    return mqttPacket.generate(packet, { protocolVersion: this.version })
  }

  #id(): number {
    this.#nextId = (this.#nextId % 200) + 1
    while (this.#outgoing.some(each => each.packetId === this.#nextId)) this.#nextId++
    return this.#nextId
  }

  #connect(move: ConnectMove): Sending {
    const { clientId } = this
    const isVersion5 = this.clientId === 'c3' ? move.isVersion5 : this.clientId !== 'c2'
    const version = isVersion5 ? 5 : 4
    const { clean, receiveMaximum, aliasMaximum } = move
    const will = move.will === null ? null : this.#will(move.will, isVersion5)
    const expirySeconds = isVersion5 ? move.expirySeconds : clean ? 0 : LONGEST_SECONDS
    const properties = {
      sessionExpiryInterval: expirySeconds,
      ...(receiveMaximum > 0 ? { receiveMaximum } : {}),
      topicAliasMaximum: aliasMaximum
    }
    this.version = version
    const bytes = this.#bytes({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: version,
      clientId,
      clean,
      keepalive: 0,
      ...(will === null
        ? {}
        : {
            will: {
              topic: will.topic,
              payload: Buffer.from(will.payload),
              qos: will.qos as 0 | 1 | 2,
              retain: will.retain,
              ...(isVersion5 ? { properties: { willDelayInterval: will.delaySeconds } } : {})
            }
          }),
      ...(isVersion5 ? { properties } : {})
    })
    this.lose()
    this.#connection++
    this.#expirySeconds = expirySeconds
    this.#aliasMaximum = isVersion5 ? aliasMaximum : 0
    const most = isVersion5 && receiveMaximum > 0 ? receiveMaximum : INFLIGHT_MAX
    const rest = { expirySeconds, receiveMaximum: most, will }
    return { action: { kind: 'connect', clientId, version, clean, ...rest }, bytes }
  }

  #will(choice: NonNullable<ConnectMove['will']>, isVersion5: boolean): Will {
    const serial = this.#counter.next++
    const payload = `will ${serial}`
    const delaySeconds = isVersion5 ? choice.delaySeconds : 0
    const { qos, retain } = choice
    return { serial, topic: `w/${this.clientId}`, payload, qos, retain, delaySeconds }
  }

  #subscribe(move: SubscribeMove): Sending {
    const { clientId } = this
    const packetId = this.#id()
    const isVersion5 = this.version === 5
    const identifier = isVersion5 ? move.identifier : 0
    const filters = move.filters.map(each => {
      const filter = FILTERS[each.filter]!
      const noLocal = isVersion5 && each.noLocal && !filter.startsWith('$share/')
      const retainAsPublished = isVersion5 && each.retainAsPublished
      const retainHandling = isVersion5 ? each.retainHandling : 0
      return { filter, qos: each.qos, noLocal, retainAsPublished, retainHandling, identifier }
    })
    const subscriptions = filters.map(each => ({
      topic: each.filter,
      qos: each.qos,
      ...(isVersion5
        ? { nl: each.noLocal, rap: each.retainAsPublished, rh: each.retainHandling }
        : {})
    }))
    const properties = identifier > 0 ? { subscriptionIdentifier: identifier } : {}
    const bytes = this.#bytes({
      cmd: 'subscribe',
      messageId: packetId,
      subscriptions,
      ...(isVersion5 ? { properties } : {})
    })
    return { action: { kind: 'subscribe', clientId, packetId, filters }, bytes }
  }

  #publish(move: PublishMove): Sending {
    const { clientId } = this
    const { qos, retain } = move
    const topic = TOPICS[move.topic]!
    const isVersion5 = this.version === 5
    const said = isVersion5 ? PROPERTIES[move.properties]! : {}
    const expirySeconds = isVersion5 ? move.expirySeconds : 0
    const serial = this.#counter.next++
    const payload = retain && move.isEmpty ? '' : `m${serial}`
    const packetId = qos > 0 ? this.#id() : 0
    const message = { serial, payload, topic, qos, retain, from: clientId, said: textOf(said) }
    const action = { kind: 'publish', clientId, packetId, message, expirySeconds } as const
    const properties = {
      ...propertiesOf(said),
      ...(expirySeconds > 0 ? { messageExpiryInterval: expirySeconds } : {})
    }
    const plain = {
      cmd: 'publish',
      topic,
      payload,
      qos,
      retain,
      dup: false,
      ...(packetId > 0 ? { messageId: packetId } : {}),
      ...(isVersion5 ? { properties } : {})
    } as const
    if (qos === 2) {
      const connection = this.#connection
      const packet = { ...plain, dup: true }
      this.#outgoing.push({ packetId, packet, action, connection, isReceived: false })
    }
    if (!isVersion5 || move.alias === 0) return { action, bytes: this.#bytes(plain) }
    const isKnown = this.#aliases.get(move.alias) === topic
    this.#aliases.set(move.alias, topic)
    const aliased = {
      ...plain,
      topic: isKnown ? '' : topic,
      properties: { ...properties, topicAlias: move.alias }
    }
    return { action, bytes: this.#bytes(aliased) }
  }

  #ack(which: number, mayRefuse: boolean): Sending | null {
    if (this.#pending.length === 0) return null
    const { cmd, packetId } = this.#pending.splice(which % this.#pending.length, 1)[0]!
    const refuses = mayRefuse && cmd === 'pubrec' && this.version === 5
    const reasonCode = refuses ? 0x80 : 0
    return {
      action: { kind: 'ack', clientId: this.clientId, cmd, packetId, refuses },
      bytes: this.#bytes({ cmd, messageId: packetId, ...(refuses ? { reasonCode } : {}) })
    }
  }

  #release(which: number, again: boolean): Sending | null {
    const { clientId } = this
    const repeatable = this.#outgoing.filter(
      each => !each.isReceived && each.connection !== this.#connection
    )
    // It is sent again until its PUBREC came, on each new connection once.
    const repeated = repeatable[which % Math.max(1, repeatable.length)]
    if (repeated !== undefined) {
      repeated.connection = this.#connection
      return { action: repeated.action, bytes: this.#bytes(repeated.packet) }
    }
    const received = this.#outgoing.filter(each => each.isReceived)
    const chosen = received[which % Math.max(1, received.length)]
    if (chosen === undefined) return null
    const { packetId } = chosen
    if (again && chosen.connection !== this.#connection) {
      chosen.connection = this.#connection
      return { action: chosen.action, bytes: this.#bytes(chosen.packet) }
    }
    const bytes = this.#bytes({ cmd: 'pubrel', messageId: packetId })
    return { action: { kind: 'pubrel', clientId, packetId }, bytes }
  }

  #disconnect(move: Extract<PeerMove, { kind: 'disconnect' }>): Sending {
    const { clientId } = this
    const isVersion5 = this.version === 5
    const way = move.way === 'with-will' && !isVersion5 ? 'normal' : move.way
    if (way === 'abrupt') {
      const action = { kind: 'disconnect', clientId, way, expirySeconds: null } as const
      return { action, bytes: null }
    }
    // Not from 0 [MQTT-3.14.2-2].
    const isSaid = isVersion5 && move.expirySeconds !== null && this.#expirySeconds > 0
    const expirySeconds = isSaid ? move.expirySeconds : null
    const properties = expirySeconds === null ? {} : { sessionExpiryInterval: expirySeconds }
    const reasonCode = way === 'with-will' ? 4 : 0
    const bytes = this.#bytes({
      cmd: 'disconnect',
      ...(isVersion5 ? { reasonCode, properties } : {})
    })
    return { action: { kind: 'disconnect', clientId, way, expirySeconds }, bytes }
  }

  /** What has come since; aliases are resolved. Throws at a packet that is none. */
  take(): Seen[] {
    const seen = this.wire === null ? [] : parse(this.wire.takeBytes(), this.version)
    return seen.map(packet => this.#note(packet))
  }

  #note(packet: Seen): Seen {
    const { packetId } = packet
    if (packet.kind === 'publish') {
      if (packet.qos > 0) {
        this.#pending.push({ cmd: packet.qos === 1 ? 'puback' : 'pubrec', packetId })
      }
      const { alias } = packet
      if (alias === 0) return packet
      if (alias > this.#aliasMaximum) throw new Error(`alias ${alias} above the maximum`)
      if (packet.topic !== '') this.#topics.set(alias, packet.topic)
      return { ...packet, topic: this.#topics.get(alias) ?? `unknown alias ${alias}` }
    }
    const outgoing = this.#outgoing.find(each => each.packetId === packetId)
    switch (packet.cmd) {
      case 'pubrel':
        this.#pending.push({ cmd: 'pubcomp', packetId })
        break
      case 'pubrec':
        if (outgoing !== undefined) outgoing.isReceived = true
        break
      case 'pubcomp':
        this.#outgoing = this.#outgoing.filter(each => each !== outgoing)
        break
      case 'connack':
        if (packet.text === 'connack false 0') this.#outgoing = []
    }
    return packet
  }
}
