/** A house as Home Assistant's broker sees it: devices that announce themselves, and a client that wants all of it. */
import { packet, RawMqtt, text } from './raw-mqtt.ts'

export const DEVICES = 2_000
export const FILTERS = 5_000
/** So many filters Home Assistant sends in a SUBSCRIBE. */
export const FILTERS_A_PACKET = 500

export const configTopic = (device: number) => `homeassistant/sensor/device_${device}/config`
export const stateTopic = (device: number) => `zigbee2mqtt/device_${device}`

/** Every device's configuration and state; those beyond the devices that exist have none. */
export function houseFilters(): string[] {
  const configs = Array.from({ length: DEVICES }, (_, device) => configTopic(device))
  const states = Array.from({ length: FILTERS - DEVICES }, (_, device) => stateTopic(device))
  return [...configs, ...states]
}

/** What a device tells of itself, 1 to 2 KB. */
export function discovery(device: number): string {
  const config = {
    name: `Device ${device}`,
    unique_id: `0x00158d00${device.toString(16).padStart(8, '0')}`,
    state_topic: stateTopic(device),
    availability: [{ topic: 'zigbee2mqtt/bridge/state' }],
    value_template: '{{ value_json.temperature }}',
    device: { identifiers: [`device_${device}`], model: 'x'.repeat(800 + (device % 1_000)) }
  }
  return JSON.stringify(config)
}

/** Publishes a retained message for every device, one half with QoS 0 and one with QoS 1. */
export async function announce(port: number): Promise<void> {
  const raw = await RawMqtt.dial(port)
  await raw.connect(4, { clientId: 'devices' })
  for (let device = 0; device < DEVICES; device++) {
    const isAcknowledged = device % 2 === 1
    raw.send(
      isAcknowledged
        ? packet(0x33, text(configTopic(device)), [0, 1], Buffer.from(discovery(device)))
        : packet(0x31, text(configTopic(device)), Buffer.from(discovery(device)))
    )
    if (isAcknowledged) await raw.next()
  }
  await raw.quiet()
  raw.destroy()
}

export function subscribePacket(version: 4 | 5, id: number, filters: readonly string[]): Buffer {
  const properties = version === 5 ? [0] : []
  const entries = filters.flatMap(filter => [text(filter), Buffer.from([1])])
  return packet(0x82, [id >> 8, id & 255], properties, ...entries)
}

export interface Arrived {
  /** Filters that were granted with QoS 1. */
  granted: number
  /** PUBLISHes, and how many of them with the retain flag. */
  messages: number
  retained: number
  /** How often each topic came. */
  readonly topics: Map<string, number>
}

export interface Home {
  readonly raw: RawMqtt
  readonly arrived: Arrived
  /** From the first byte to the last message. */
  readonly seconds: number
}

/**
 * Connects with a clean start, subscribes in packets of 500, and takes, and acknowledges, `messages` and whatever else
 * comes before the answer to a ping behind them.
 */
export async function moveIn(
  port: number,
  version: 4 | 5,
  filters: readonly string[],
  messages: number
): Promise<Home> {
  const startedAt = performance.now()
  const raw = await RawMqtt.dial(port)
  await raw.connect(version, { clientId: 'homeassistant', clean: true })
  for (let at = 0, id = 1; at < filters.length; at += FILTERS_A_PACKET, id++) {
    raw.send(subscribePacket(version, id, filters.slice(at, at + FILTERS_A_PACKET)))
  }
  const arrived: Arrived = { granted: 0, messages: 0, retained: 0, topics: new Map() }
  while (arrived.granted < filters.length || arrived.messages < messages) {
    take(raw, arrived, await raw.next())
  }
  const seconds = (performance.now() - startedAt) / 1_000
  raw.send('c0 00')
  for (let next = await raw.next(); next[0] !== 0xd0; next = await raw.next()) {
    take(raw, arrived, next)
  }
  return { raw, arrived, seconds }
}

function take(raw: RawMqtt, arrived: Arrived, found: Buffer): void {
  const bodyAt = found.findIndex((byte, at) => at > 0 && byte < 128) + 1
  if (found[0] === 0x90) {
    const codes = found.subarray(bodyAt + (raw.version === 5 ? 3 : 2))
    arrived.granted += codes.filter(code => code === 1).length
    if (!codes.every(code => code === 1)) throw new Error(`refused: ${codes.toString('hex')}`)
    return
  }
  if (found[0]! >> 4 !== 3) throw new Error(`unexpected ${found.subarray(0, 16).toString('hex')}`)
  const end = bodyAt + 2 + found.readUInt16BE(bodyAt)
  const topic = found.toString('utf8', bodyAt + 2, end)
  arrived.messages++
  if ((found[0]! & 1) !== 0) arrived.retained++
  arrived.topics.set(topic, (arrived.topics.get(topic) ?? 0) + 1)
  if ((found[0]! & 6) !== 0) raw.send([0x40, 2], found.subarray(end, end + 2))
}
