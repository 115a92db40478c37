/**
 * What holds around every bad input over AMQP: the broker lives and has found no bug in itself, a client beside
 * it notices nothing, the log says once what happened, and the memory is what it was.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, onTestFinished } from 'vitest'
import { BASIC, CHANNEL, CONNECTION, QUEUE } from '../../src/amqp/codec/methods.ts'
import { AmqpGateway, type AmqpGatewayOptions } from './amqp-gateway.ts'
import { QUEUE_VALUES } from './amqp-moves.ts'
import { publishFrames, type RawAmqp } from './raw-amqp.ts'

/** What the heap and the buffers may have grown by, bytes. */
const GROWTH_MAX = 5 * 1024 * 1024

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** `heapUsed` and `external` after a collection. */
function memory(): number {
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** What an error must say: its code, its text, the class and the method. */
export type Verdict = readonly [code: number, text: string | RegExp, ids: string]

export class AmqpBadInputs {
  readonly gateway: AmqpGateway
  readonly #witness: RawAmqp

  private constructor(gateway: AmqpGateway, witness: RawAmqp) {
    this.gateway = gateway
    this.#witness = witness
  }

  static async start(options: AmqpGatewayOptions = {}): Promise<AmqpBadInputs> {
    const gateway = await new AmqpGateway(options).start()
    onTestFinished(() => gateway.close())
    const witness = await gateway.connect()
    await witness.call(QUEUE.declare, { ...QUEUE_VALUES, queue: 'witness' }, QUEUE.declareOk)
    return new AmqpBadInputs(gateway, witness)
  }

  /** Runs one case; the log says `lines` sentences about it, none of them an error of ours. */
  async around(lines: number, run: () => Promise<void>): Promise<void> {
    const { gateway } = this
    const before = memory()
    const first = gateway.lines.length
    await run()
    await this.echo()
    const said = gateway.lines.slice(first).filter(({ msg }) => msg !== 'amqp client connected')
    expect(said.map(({ level }) => level)).toEqual(said.map(() => expect.toSatisfy(isCalm)))
    expect(said.length, JSON.stringify(said)).toBe(lines)
    gateway.forgetClients(this.#witness)
    await expect.poll(() => gateway.amqp.connections.size).toBe(1)
    gateway.lines.length = 0
    // What a socket still holds goes with it, a few turns later.
    await expect.poll(() => memory() - before).toBeLessThan(GROWTH_MAX)
  }

  /** The client beside it goes on as if nothing were. */
  async echo(): Promise<void> {
    const witness = this.#witness
    witness.send(...publishFrames('', 'witness', Buffer.from('still here')))
    witness.method(BASIC.get, 1, { reserved: 0, queue: 'witness', noAck: true })
    expect((await witness.content(BASIC.getOk)).body.toString()).toBe('still here')
  }
}

/** Info or warn: nothing that a peer does is an error of ours. */
function isCalm(level: unknown): boolean {
  return level === 30 || level === 40
}

/** connection.close with this verdict; everything is ignored until close-ok, then the connection ends. */
export async function closesConnection(client: RawAmqp, verdict: Verdict): Promise<void> {
  check(await client.expect(CONNECTION.close, 0), verdict)
  client.send(...publishFrames('', 'witness', Buffer.from('ignored')))
  client.method(CONNECTION.closeOk, 0, {})
  expect(await client.frame()).toBeNull()
}

/** channel.close with this verdict; its number is free after close-ok, and the connection goes on. */
export async function closesChannel(client: RawAmqp, verdict: Verdict, channel = 1): Promise<void> {
  check(await client.expect(CHANNEL.close, channel), verdict)
  client.send(...publishFrames('', 'witness', Buffer.from('ignored'), { channel }))
  client.method(CHANNEL.closeOk, channel, {})
  await client.openChannel(channel)
}

interface Close {
  readonly replyCode: number
  readonly replyText: string
  readonly classId: number
  readonly methodId: number
}

function check(close: Close, [code, text, ids]: Verdict): void {
  const { replyCode, replyText, classId, methodId } = close
  expect([replyCode, replyText, `${classId}.${methodId}`]).toEqual([
    code,
    typeof text === 'string' ? text : expect.stringMatching(text),
    ids
  ])
}
