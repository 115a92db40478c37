/** The few moves of which the protocol tests are made: connect, subscribe, publish, byte by byte. */
import { expect, onTestFinished } from 'vitest'
import { Gateway, type GatewayOptions } from './gateway.ts'
import { packet, type RawMqtt, text } from './raw-mqtt.ts'

/** A gateway that is closed when the test is over. */
export async function startGateway(options: GatewayOptions = {}): Promise<Gateway> {
  const gateway = await new Gateway(options).start()
  onTestFinished(async () => await gateway.close())
  return gateway
}

/** Connects to `gateway` and expects to be let in. */
export async function connectTo(
  gateway: Gateway,
  version: 4 | 5,
  clientId: string,
  options: object = {}
): Promise<RawMqtt> {
  const raw = await gateway.dial()
  const connack = await raw.connect(version, { clientId, ...options })
  expect(connack[0]).toBe(0x20)
  expect(connack[3]).toBe(0)
  return raw
}

export const lasting = { clean: false, properties: { sessionExpiryInterval: 3600 } }

export function subscribe(raw: RawMqtt, filter: string, options: number, id = 1): void {
  raw.send(packet(0x82, [0, id], raw.version === 5 ? '00' : '', text(filter), [options]))
}

export async function subscribed(raw: RawMqtt, filter: string, options: number): Promise<void> {
  subscribe(raw, filter, options)
  const suback = await raw.next()
  expect(suback[0]).toBe(0x90)
  expect(suback.at(-1)).toBe(options & 3)
}

export function publish(raw: RawMqtt, first: number, topic: string, payload: string, id = 0): void {
  raw.send(
    packet(
      first,
      text(topic),
      id === 0 ? '' : [id >> 8, id & 255],
      raw.version === 5 ? '00' : '',
      Buffer.from(payload)
    )
  )
}

export const hex = (buffer: Buffer) => buffer.toString('hex')
