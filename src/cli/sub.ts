/** `motemq sub`: mosquitto_sub with its flags, formats and exit codes. */
import type { ClientEnd, ClientHandler } from '../client/client-options.ts'
import { MqttClient } from '../client/mqtt-client.ts'
import type { Answer, Connack } from '../client/packets.ts'
import { decodeProperties, ID, type Property } from '../client/properties.ts'
import { filterMatches } from '../core/topic.ts'
import type { Message } from '../core/message.ts'
import {
  MessageFormat,
  type MessageTime,
  type ShownMessage,
  writeVerbose
} from './message-format.ts'
import { clientOptions, EXIT, tracer, verdictOf } from './mosquitto-client.ts'
import type { ClientFlags } from './mosquitto-config.ts'
import { runClientCommand, Voice } from './mosquitto-run.ts'
import { Output } from './output.ts'

const RETAIN_AS_PUBLISHED = 0x08
const NEWLINE = Buffer.from('\n')
const NOTHING = Buffer.alloc(0)

export async function subscribe(words: readonly string[]): Promise<void> {
  await runClientCommand('sub', words, async flags => await new Subscriber(flags).run())
}

class Subscriber implements ClientHandler {
  private readonly flags: ClientFlags
  private readonly voice: Voice
  private readonly output: Output
  private readonly format: MessageFormat | null
  private client: MqttClient | null
  private count: number
  /** Messages are not looked at any more. */
  private isOver: boolean
  private removing: number
  private exitCode: number
  private timer: NodeJS.Timeout | null
  private resolve: (exitCode: number) => void

  constructor(flags: ClientFlags) {
    this.flags = flags
    this.output = new Output(process.stdout, {
      onFull: () => this.client?.pause(),
      onDrained: () => this.client?.resume(),
      onBroken: () => this.client?.disconnect()
    })
    this.voice = new Voice(flags, line => this.output.write(Buffer.from(line)))
    this.format =
      flags.format === null
        ? null
        : new MessageFormat(flags.format, flags.isPretty, topic =>
            this.voice.error(`Error: Message payload is not valid JSON on topic ${topic}.`)
          )
    this.client = null
    this.count = 0
    this.isOver = false
    this.removing = 0
    this.exitCode = 0
    this.timer = null
    this.resolve = () => undefined
  }

  async run(): Promise<number> {
    const { flags, voice } = this
    const options = await clientOptions(
      flags,
      tracer(flags, line => voice.debug(line)),
      true
    )
    const client = new MqttClient(options, this)
    this.client = client
    voice.clientId = options.clientId
    const onSignal = (): void => client.disconnect(0, flags.properties.disconnect)
    process.once('SIGINT', onSignal)
    process.once('SIGTERM', onSignal)
    return await new Promise(resolve => {
      this.resolve = resolve
      voice.debug('sending CONNECT')
      client.connect()
    })
  }

  onConnected(connack: Connack): void {
    const { voice, client, flags } = this
    voice.clientId = client?.clientId ?? ''
    voice.debug(`received CONNACK (${connack.code})`)
    if (this.timer === null && flags.timeoutSeconds > 0) {
      this.timer = setTimeout(() => this.timedOut(), flags.timeoutSeconds * 1_000)
    }
    this.subscribeAll().catch(error => {
      // A handler's bug: the process ends with it.
      setImmediate(() => {
        throw error
      })
    })
  }

  onMessage(message: Message, isRepeated: boolean): void {
    const { flags, voice } = this
    const { key: topic, qos, retain, packetId } = message
    if (flags.isDebug) {
      voice.debug(
        `received PUBLISH (d${isRepeated ? 1 : 0}, q${qos}, r${retain ? 1 : 0}, m${packetId}, '${topic}', ... (${message.payloadBytes} bytes))`
      )
    }
    if (this.isOver) return
    if (flags.retainedOnly && !retain) {
      this.isOver = true
      this.endSoon()
      return
    }
    if (retain && !flags.showsRetained) return
    if (flags.filterOut.some(filter => filterMatches(filter, topic))) return
    if (flags.removesRetained && retain) this.remove(topic)
    if (flags.randomFilter >= 100 || Math.random() * 100 < flags.randomFilter) this.show(message)
    if (flags.count > 0 && ++this.count === flags.count) {
      this.isOver = true
      this.endSoon()
    }
  }

  onSettled(): void {
    this.removing--
    if (this.isOver && this.removing === 0) this.end()
  }

  onRoom(): void {
    // What is removed is not waited for one by one.
  }

  onDisconnected(end: ClientEnd, retryMs: number): void {
    const { flags, voice } = this
    const isFinal = end.kind === 'refused' || retryMs < 0
    if (!isFinal) return
    if (retryMs >= 0) this.client?.abort()
    if (this.timer !== null) clearTimeout(this.timer)
    const verdict = verdictOf(end, flags)
    // A refusal ends it too, and is told once.
    if (end.kind !== 'done' || this.exitCode === 0) {
      for (const line of verdict.lines) voice.error(line)
      if (this.exitCode === 0) this.exitCode = verdict.exitCode
    }
    this.output.end(() => this.resolve(this.exitCode))
  }

  private async subscribeAll(): Promise<void> {
    const { client, flags, voice } = this
    if (client === null) return
    const options = flags.version === 5 && flags.retainAsPublished ? RETAIN_AS_PUBLISHED : 0
    const { topics, unsubscribe, properties, qos } = flags
    const hexOptions = options.toString(16).padStart(2, '0')
    for (const topic of topics) {
      voice.debug(
        `sending SUBSCRIBE (Mid: 1, Topic: ${topic}, QoS: ${qos}, Options: 0x${hexOptions})`
      )
    }
    const subscribed = client.subscribe(
      topics.map(filter => ({ filter, qos, options })),
      properties.subscribe
    )
    for (const topic of unsubscribe) voice.debug(`sending UNSUBSCRIBE (Mid: 2, Topic: ${topic})`)
    const unsubscribed =
      unsubscribe.length === 0
        ? Promise.resolve(null)
        : client.unsubscribe(unsubscribe, properties.unsubscribe)
    const answer = await subscribed
    if (answer !== null) this.onSubscribed(answer)
    if ((await unsubscribed) !== null) voice.debug('received UNSUBACK')
  }

  private onSubscribed(answer: Answer): void {
    const { voice, flags } = this
    voice.debug('received SUBACK')
    voice.plain(`Subscribed (mid: ${answer.packetId}): ${answer.codes.join(', ')}`)
    if (answer.codes.every(code => code > 127)) {
      voice.error('All subscription requests were denied.')
      this.end()
    } else if (flags.endsWhenSubscribed) this.end()
  }

  private timedOut(): void {
    this.exitCode = EXIT.timeout
    this.isOver = true
    this.voice.error('Timed out')
    this.end()
  }

  private remove(topic: string): void {
    const { client } = this
    const answer = client?.publish(Buffer.from(topic), NOTHING, 1, true, NOTHING, 0)
    // No room: the window is full of removals; those beyond it go without an acknowledgement.
    if (answer === 0) this.removing++
    else client?.publish(Buffer.from(topic), NOTHING, 0, true, NOTHING, 0)
  }

  private endSoon(): void {
    if (this.removing === 0) this.end()
  }

  private end(): void {
    const { client, voice } = this
    if (client === null || !client.isOpen) {
      client?.disconnect()
      return
    }
    // The acknowledgement of the message at hand is to leave before.
    setImmediate(() => {
      if (!client.isOpen) return
      voice.debug('sending DISCONNECT')
      client.disconnect(0, this.flags.properties.disconnect)
    })
  }

  private show(message: Message): void {
    const { flags, format, output } = this
    const { source } = message
    const payload = source.subarray(message.payloadStart, message.payloadEnd)
    if (format === null && payload.length === 0 && !(flags.isVerbose && flags.hasNewline)) return
    let shown = payload
    if (format !== null || flags.isVerbose) {
      const fields: ShownMessage = {
        topic: Buffer.from(message.key),
        payload,
        qos: message.qos,
        retain: message.retain,
        packetId: message.packetId,
        properties: format === null ? [] : this.propertiesOf(message),
        at: now()
      }
      shown = format === null ? writeVerbose(fields) : format.write(fields)
    }
    output.write(shown)
    if (flags.hasNewline) output.write(NEWLINE)
  }

  /** In the order of the packet: the reader had taken expiry and alias out. */
  private propertiesOf(message: Message): readonly Property[] {
    const { source, propertiesStart: start, propertiesEnd: end } = message
    const at = this.client?.expiryOffset ?? -1
    const alias = this.client?.topicAlias ?? 0
    const list: Property[] = alias === 0 ? [] : [{ id: ID.topicAlias, value: alias }]
    if (at < 0) return [...list, ...decodeProperties(source, start, end)]
    list.push(...decodeProperties(source, start, start + at))
    list.push({ id: ID.messageExpiry, value: Math.floor(message.expiresAt / 1_000) })
    return [...list, ...decodeProperties(source, start + at, end)]
  }
}

function now(): MessageTime {
  const ms = performance.timeOrigin + performance.now()
  const whole = Math.floor(ms)
  const nanoseconds = (whole % 1_000) * 1_000_000 + Math.floor((ms - whole) * 1_000_000)
  return { ms: whole, nanoseconds }
}
