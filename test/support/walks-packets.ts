/** A walk's packets, as its clients send and read them. */
import mqttPacket, { type IPublishPacket, type Packet, type UserProperties } from 'mqtt-packet'

/** What a publisher says beside the payload. */
export interface Said {
  readonly contentType?: string
  readonly responseTopic?: string
  readonly correlationData?: string
  readonly payloadFormatIndicator?: boolean
  readonly userProperties?: Readonly<Record<string, string | string[]>>
}

export const PROPERTIES: readonly Said[] = [
  {},
  { contentType: 'text/plain', payloadFormatIndicator: true },
  { responseTopic: 'answers/here', correlationData: 'no 7' },
  { userProperties: { k: ['1', '2'], z: 'w' }, contentType: 'x' }
]

export interface SeenPublish {
  readonly kind: 'publish'
  /** '': an alias stands for it. */
  readonly topic: string
  readonly payload: string
  readonly qos: number
  readonly dup: boolean
  readonly retain: boolean
  /** 0 with QoS 0. */
  readonly packetId: number
  readonly identifiers: readonly number[]
  /** -1: none. */
  readonly expirySeconds: number
  /** 0: none. */
  readonly alias: number
  /** As text, to compare. */
  readonly said: string
}

export interface SeenOther {
  readonly kind: 'connack' | 'suback' | 'unsuback' | 'ack' | 'disconnect' | 'other'
  /** To compare. */
  readonly text: string
  readonly cmd: string
  readonly packetId: number
}

export type Seen = SeenPublish | SeenOther

export function textOf(said: Said): string {
  const { contentType, responseTopic, correlationData, payloadFormatIndicator } = said
  const pairs: [string, string][] = []
  for (const [name, value] of Object.entries(said.userProperties ?? {})) {
    for (const each of typeof value === 'string' ? [value] : value) pairs.push([name, each])
  }
  return JSON.stringify([
    contentType,
    responseTopic,
    correlationData,
    payloadFormatIndicator,
    pairs
  ])
}

export function propertiesOf(said: Said): NonNullable<IPublishPacket['properties']> {
  const { correlationData, userProperties, ...rest } = said
  return {
    ...rest,
    ...(correlationData === undefined ? {} : { correlationData: Buffer.from(correlationData) }),
    ...(userProperties === undefined ? {} : { userProperties: userProperties as UserProperties })
  }
}

export function parse(bytes: Buffer, version: 4 | 5): Seen[] {
  if (bytes.length === 0) return []
  const parser = mqttPacket.parser({ protocolVersion: version })
  const seen: Seen[] = []
  parser.on('packet', packet => seen.push(seenOf(packet)))
  parser.on('error', error => {
    throw error
  })
  if (parser.parse(bytes) > 0) throw new Error(`a packet cut short: ${bytes.toString('hex')}`)
  return seen
}

function seenOf(packet: Packet): Seen {
  const packetId = packet.messageId ?? 0
  const { cmd } = packet
  switch (cmd) {
    case 'publish':
      return seenPublish(packet)
    case 'connack': {
      const code = packet.reasonCode ?? packet.returnCode ?? 0
      return { kind: cmd, cmd, packetId, text: `connack ${packet.sessionPresent} ${code}` }
    }
    case 'suback':
      return { kind: cmd, cmd, packetId, text: `suback ${packetId} ${packet.granted.join()}` }
    case 'unsuback': {
      const granted = (packet as unknown as { granted?: readonly number[] }).granted ?? []
      return { kind: cmd, cmd, packetId, text: `unsuback ${packetId} ${granted.join()}` }
    }
    case 'puback':
    case 'pubrec':
    case 'pubrel':
    case 'pubcomp':
      return { kind: 'ack', cmd, packetId, text: `${cmd} ${packetId} ${packet.reasonCode ?? 0}` }
    case 'disconnect':
      return { kind: cmd, cmd, packetId, text: `disconnect ${packet.reasonCode}` }
    default:
      return { kind: 'other', cmd, packetId, text: cmd }
  }
}

function seenPublish(packet: IPublishPacket): SeenPublish {
  const { properties = {}, messageId = 0, topic, qos, dup, retain } = packet
  const {
    subscriptionIdentifier: ids = [],
    correlationData,
    contentType,
    responseTopic
  } = properties
  const identifiers = (typeof ids === 'number' ? [ids] : ids).toSorted((a, b) => a - b)
  const said = {
    ...(contentType === undefined ? {} : { contentType }),
    ...(responseTopic === undefined ? {} : { responseTopic }),
    ...(correlationData === undefined ? {} : { correlationData: correlationData.toString() }),
    ...(properties.payloadFormatIndicator === undefined
      ? {}
      : { payloadFormatIndicator: properties.payloadFormatIndicator }),
    ...(properties.userProperties === undefined
      ? {}
      : { userProperties: { ...properties.userProperties } })
  }
  return {
    kind: 'publish',
    topic,
    payload: packet.payload.toString(),
    qos,
    dup,
    retain,
    packetId: messageId,
    identifiers,
    expirySeconds: properties.messageExpiryInterval ?? -1,
    alias: properties.topicAlias ?? 0,
    said: textOf(said)
  }
}
