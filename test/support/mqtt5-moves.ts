/** Moves of the MQTT 5 conformance tests: clients that are connected, subscribed, gone. */
import { expect } from 'vitest'
import type { Credentials } from '../../src/auth/authenticator.ts'
import { Principal } from '../../src/core/principal.ts'
import type { Gateway } from './gateway.ts'
import {
  type ConnectOptions,
  connectPacket,
  ending,
  next,
  type PublishOptions,
  publishPacket,
  type Received,
  subscribePacket
} from './mqtt5-bytes.ts'
import type { Bytes, RawMqtt } from './raw-mqtt.ts'

/** `bob` and nobody may come in, `mallory` not, for `busy` there is no room. */
export function authenticate({ username }: Credentials) {
  const name = username ?? ''
  if (name === 'mallory') return Promise.resolve({ ok: false, reason: 'bad-credentials' } as const)
  if (name === 'stranger') return Promise.resolve({ ok: false, reason: 'not-authorized' } as const)
  if (name === 'busy') return Promise.resolve({ ok: false, reason: 'busy' } as const)
  return Promise.resolve({
    ok: true,
    principal: new Principal(name, [], '/', [], [], true)
  } as const)
}

/** A TCP connection on which a CONNECT, or whatever else, was sent. */
export async function dialed(gateway: Gateway, ...parts: Bytes[]): Promise<RawMqtt> {
  const raw = await gateway.dial()
  raw.version = 5
  raw.send(...parts)
  return raw
}

/** A client that was let in, and its CONNACK. */
export async function met(
  gateway: Gateway,
  options: ConnectOptions = {}
): Promise<{ raw: RawMqtt; connack: Received }> {
  const raw = await dialed(gateway, connectPacket(options))
  const connack = await next(raw)
  expect([connack.first, ...connack.reasons]).toEqual([0x20, 0])
  return { raw, connack }
}

/** A client that was let in. */
export async function client(gateway: Gateway, options: ConnectOptions = {}): Promise<RawMqtt> {
  return (await met(gateway, options)).raw
}

/** Subscribes and reads the SUBACK. */
export async function subscribed(
  raw: RawMqtt,
  filter: string,
  options = 0,
  ...properties: Bytes[]
): Promise<void> {
  raw.send(subscribePacket(1, [[filter, options]], ...properties))
  const suback = await next(raw)
  expect([suback.first, ...suback.reasons]).toEqual([0x90, options & 3])
}

/** A client of its own that was let in and has subscribed. */
export async function subscriber(
  gateway: Gateway,
  filter: string,
  options = 0,
  connect: ConnectOptions = {}
): Promise<RawMqtt> {
  const raw = await client(gateway, { clientId: 'subscriber', ...connect })
  await subscribed(raw, filter, options)
  return raw
}

/** Publishes, and waits until the broker has it: by its acknowledgement, or a ping behind it. */
export async function published(
  raw: RawMqtt,
  topic: string,
  payload: string,
  options: PublishOptions = {}
): Promise<void> {
  const { qos = 0, id = 7 } = options
  raw.send(publishPacket(topic, payload, { ...options, id }))
  if (qos === 0) {
    await raw.quiet()
    return
  }
  const ack = await next(raw)
  expect([ack.first, ack.id]).toEqual([qos === 1 ? 0x40 : 0x50, id])
  expect(ack.reasons[0]).toBeLessThan(0x80)
  if (qos === 1) return
  raw.send(Buffer.from([0x62, 2, id >> 8, id & 255]))
  const pubcomp = await next(raw)
  expect([pubcomp.first, pubcomp.id, ...pubcomp.reasons]).toEqual([0x70, id, 0])
}

/**
 * Nothing comes: two pings' answers are the next packets. A ping is answered at once, before what waits for
 * the disk: hence the second one, some turns later.
 */
export async function quiet(raw: RawMqtt): Promise<void> {
  await raw.quiet()
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
  await raw.quiet()
}

/** Leaves with a DISCONNECT of that reason, and waits for the close. */
export async function left(raw: RawMqtt, reason = 0): Promise<void> {
  raw.send(reason === 0 ? 'e0 00' : [0xe0, 1, reason])
  expect(await ending(raw)).toEqual([])
}

/** Is gone without a word, and the broker has seen it. */
export async function lost(gateway: Gateway, raw: RawMqtt): Promise<void> {
  const before = gateway.mqtt.count
  raw.destroy()
  await gateway.until(() => gateway.mqtt.count < before)
}

/** Topics, or payloads, of the next deliveries. */
export async function payloads(raw: RawMqtt, count: number): Promise<string[]> {
  const found: string[] = []
  for (let i = 0; i < count; i++) {
    const received = await next(raw)
    expect(received.first >> 4).toBe(3)
    found.push(received.payload)
  }
  return found
}
