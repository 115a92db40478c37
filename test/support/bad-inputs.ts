/**
 * What holds around every bad input: the broker lives and has found no bug in itself, a client beside it notices
 * nothing, the log says once what happened, and the memory is what it was.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect } from 'vitest'
import mqttPacket, { type IConnectPacket } from 'mqtt-packet'
import { Gateway, type GatewayOptions } from './gateway.ts'
import { bytes, type Bytes, packet, type RawMqtt, text } from './raw-mqtt.ts'

export type Version = 3 | 4 | 5

/** What the heap and the buffers may have grown by, bytes. */
const GROWTH_MAX = 5 * 1024 * 1024
const ECHO = packet(0x30, text('witness/echo'), Buffer.from('still here'))

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** `heapUsed` and `external` after a collection. */
function memory(): number {
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

export const hex = (buffer: Buffer) => buffer.toString('hex')

/** A CONNECT of `version`; `flags` is its third byte, and what they announce follows the client id. */
export function connectBytes(version: Version, flags: number, ...payload: Bytes[]): Buffer {
  return connectAs(version === 3 ? 'MQIsdp' : 'MQTT', version, flags, ...payload)
}

export function connectAs(name: string, level: number, flags: number, ...payload: Bytes[]): Buffer {
  return packet(0x10, text(name), [level, flags, 0, 60], level === 5 ? '00' : '', ...payload)
}

export class BadInputs {
  readonly gateway: Gateway
  readonly witness: RawMqtt
  #count = 0

  private constructor(gateway: Gateway, witness: RawMqtt) {
    this.gateway = gateway
    this.witness = witness
  }

  static async start(options: GatewayOptions = {}): Promise<BadInputs> {
    const gateway = await new Gateway(options).start()
    const witness = await gateway.dial()
    const keepalive = gateway.broker.limits.maxKeepaliveSeconds
    await witness.connect(4, { clientId: 'witness', keepalive })
    witness.send(packet(0x82, '00 01', text('witness/echo'), '00'))
    expect(hex(await witness.next())).toBe('9003000100')
    return new BadInputs(gateway, witness)
  }

  async close(): Promise<void> {
    expect(this.gateway.mqtt.bugs).toBe(0)
    await this.gateway.close()
  }

  /** A TCP connection that has sent nothing. */
  dial(): Promise<RawMqtt> {
    return this.gateway.dial()
  }

  /** A client that is logged in, with an id of its own. */
  async open(version: Version, options: Partial<IConnectPacket> = {}): Promise<RawMqtt> {
    const raw = await this.dial()
    raw.version = version === 5 ? 5 : 4
    raw.send(
      mqttPacket.generate({
        cmd: 'connect',
        protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
        protocolVersion: version,
        clientId: `client-${this.#count++}`,
        clean: true,
        keepalive: 60,
        ...options,
        // Without reason strings.
        ...(version === 5
          ? { properties: { requestProblemInformation: false, ...options.properties } }
          : {})
      } as IConnectPacket)
    )
    const connack = await raw.next()
    expect([connack[0], connack[3]]).toEqual([0x20, 0])
    return raw
  }

  /** The witness's subscription, for what somebody else causes to be published. */
  async watch(filter: string): Promise<void> {
    this.witness.send(packet(0x82, '00 02', text(filter), '00'))
    expect(hex(await this.witness.next())).toBe('9003000200')
  }

  /**
   * Runs one case. `reasons` are what the log's audit lines must say, in order: nothing more, nothing less. Clients
   * that it leaves open are closed behind it.
   */
  async around(reasons: readonly RegExp[], run: () => Promise<void>): Promise<void> {
    const { gateway, witness } = this
    // A second later: lines about strangers are limited in each.
    gateway.pass(1)
    const before = memory()
    const first = gateway.lines.length
    await run()
    const said = gateway.lines.slice(first).filter(line => line['msg'] !== 'connected')
    expect(said.map(({ level }) => level)).toEqual(reasons.map(() => expect.toSatisfy(isCalm)))
    expect(said.map(({ reason }) => reason)).toEqual(
      reasons.map(each => expect.stringMatching(each))
    )
    for (const line of said) expect(line['peer']).toMatch(/^127\.0\.0\.1:\d+$/)
    witness.send(ECHO)
    expect(hex(await witness.next())).toBe(hex(ECHO))
    await witness.quiet()
    expect(gateway.mqtt.bugs).toBe(0)
    await this.tidy()
    expect(memory() - before).toBeLessThan(GROWTH_MAX)
  }

  /** Closes every client but the witness, and forgets the log's lines. */
  async tidy(): Promise<void> {
    const { gateway } = this
    gateway.forgetClients(this.witness)
    await gateway.until(() => gateway.mqtt.count === 1)
    gateway.lines.length = 0
  }

  /** Sends, and returns in hexadecimal what comes back before the close. */
  async answers(raw: RawMqtt, ...parts: Bytes[]): Promise<string[]> {
    raw.send(bytes(...parts))
    return (await raw.rest()).map(withoutProperties).map(hex)
  }

  /** The same for a connection of its own, as the first thing that it sends. */
  async first(...parts: Bytes[]): Promise<string[]> {
    return await this.answers(await this.dial(), ...parts)
  }
}

/** What refuses and ends, with nothing but its reason code; the rest as it is. */
function withoutProperties(found: Buffer): Buffer {
  if (found[0] === 0xe0) return Buffer.from([0xe0, 1, found[2]!])
  if (found[0] !== 0x20 || found[3]! < 0x80) return found
  return Buffer.from([0x20, 3, 0, found[3]!, 0])
}

/** Info or warn: nothing that a peer does is an error of ours. */
function isCalm(level: unknown): boolean {
  return level === 30 || level === 40
}
