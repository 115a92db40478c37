/** `motemq pub`: mosquitto_pub with its flags, output and exit codes. */
import { readFileSync, statSync } from 'node:fs'
import {
  type ClientEnd,
  type ClientHandler,
  NO_ROOM,
  QOS_NOT_SUPPORTED,
  RETAIN_NOT_SUPPORTED,
  TAKEN
} from '../client/client-options.ts'
import { MqttClient } from '../client/mqtt-client.ts'
import type { Connack } from '../client/packets.ts'
import { encodeProperties } from '../client/properties.ts'
import { ClientFailure, clientOptions, reasonText, tracer, verdictOf } from './mosquitto-client.ts'
import type { ClientFlags } from './mosquitto-config.ts'
import { runClientCommand, Voice } from './mosquitto-run.ts'

const NEWLINE = 0x0a
/** The largest Remaining Length (§1.5.5). */
const PAYLOAD_BYTES_MAX = 268_435_455

export async function publish(words: readonly string[]): Promise<void> {
  await runClientCommand('pub', words, async flags => {
    const source = await openSource(flags)
    return await new Publisher(flags, source).run()
  })
}

/** Where the messages come from. */
interface Source {
  /** Null: none now; `onReady` is called when that changes. */
  next(): Buffer | null
  readonly isDone: boolean
  onReady: () => void
  start(): void
  close(): void
}

async function openSource(flags: ClientFlags): Promise<Source> {
  const body = flags.body!
  switch (body.kind) {
    case 'lines':
      return new Lines()
    case 'text':
      return new Repeated(Buffer.from(body.text), flags)
    case 'file':
      return new Repeated(loadFile(body.text), flags)
    default: {
      const chunks: Buffer[] = []
      let bytes = 0
      for await (const chunk of process.stdin) {
        chunks.push(chunk as Buffer)
        bytes += (chunk as Buffer).length
        // No more is read of what is too long anyway.
        if (bytes > PAYLOAD_BYTES_MAX) break
      }
      return new Repeated(checkLoaded(Buffer.concat(chunks), 'stdin'), flags)
    }
  }
}

function loadFile(file: string): Buffer {
  const name = `input file "${file}"`
  let size: number
  try {
    ;({ size } = statSync(file))
    if (size <= PAYLOAD_BYTES_MAX) return readFileSync(file)
  } catch {
    throw new ClientFailure(`Error: Unable to open file "${file}".\nError loading ${name}.`)
  }
  throw tooLong(name)
}

function checkLoaded(bytes: Buffer, from: string): Buffer {
  if (bytes.length > PAYLOAD_BYTES_MAX) throw tooLong(`input from ${from}`)
  if (bytes.length > 0) return bytes
  throw new ClientFailure(`Error: Zero length input.\nError loading input from ${from}.`)
}

function tooLong(what: string): ClientFailure {
  return new ClientFailure(
    `Error: Message length must be less than ${PAYLOAD_BYTES_MAX} bytes.\nError loading ${what}.`
  )
}

/** One payload, `--repeat` times, `--repeat-delay` apart. */
class Repeated implements Source {
  onReady: () => void = () => undefined
  private readonly payload: Buffer
  private readonly delayMs: number
  private left: number
  private isWaiting: boolean
  private timer: NodeJS.Timeout | null

  constructor(payload: Buffer, flags: ClientFlags) {
    this.payload = payload
    this.delayMs = flags.repeatDelayMs
    this.left = flags.repeat
    this.isWaiting = false
    this.timer = null
  }

  get isDone(): boolean {
    return this.left === 0
  }

  next(): Buffer | null {
    if (this.left === 0 || this.isWaiting) return null
    this.left--
    if (this.left > 0 && this.delayMs > 0) {
      this.isWaiting = true
      this.timer = setTimeout(() => {
        this.isWaiting = false
        this.onReady()
      }, this.delayMs)
    }
    return this.payload
  }

  start(): void {
    // It is all there.
  }

  close(): void {
    if (this.timer !== null) clearTimeout(this.timer)
  }
}

/** A message a line of standard input, which is not read while lines wait. */
class Lines implements Source {
  onReady: () => void = () => undefined
  private waiting: Buffer[]
  private rest: Buffer[]
  private hasEnded: boolean

  constructor() {
    this.waiting = []
    this.rest = []
    this.hasEnded = false
  }

  get isDone(): boolean {
    return this.hasEnded && this.waiting.length === 0
  }

  start(): void {
    const { stdin } = process
    stdin.on('data', (chunk: Buffer) => this.split(chunk))
    stdin.on('end', () => this.end())
    stdin.on('error', () => this.end())
  }

  next(): Buffer | null {
    const line = this.waiting.pop()
    if (line !== undefined) return line
    if (!this.hasEnded) process.stdin.resume()
    return null
  }

  close(): void {
    process.stdin.destroy()
  }

  private split(chunk: Buffer): void {
    const lines: Buffer[] = []
    let at = 0
    for (;;) {
      const end = chunk.indexOf(NEWLINE, at)
      if (end < 0) break
      this.rest.push(chunk.subarray(at, end))
      lines.push(Buffer.concat(this.rest))
      this.rest = []
      at = end + 1
    }
    if (at < chunk.length) this.rest.push(chunk.subarray(at))
    if (lines.length === 0) return
    // Read only when none waits: the next one is the last.
    this.waiting = lines.reverse()
    process.stdin.pause()
    this.onReady()
  }

  private end(): void {
    if (this.hasEnded) return
    this.hasEnded = true
    const last = Buffer.concat(this.rest)
    if (last.length > 0) this.waiting.unshift(last)
    this.onReady()
  }
}

class Publisher implements ClientHandler {
  private readonly flags: ClientFlags
  private readonly source: Source
  private readonly voice: Voice
  private readonly topic: Buffer
  private readonly properties: Buffer
  private client: MqttClient | null
  private held: Buffer | null
  private count: number
  private exitCode: number
  private resolve: (exitCode: number) => void

  constructor(flags: ClientFlags, source: Source) {
    this.flags = flags
    this.source = source
    this.voice = new Voice(flags, line => process.stdout.write(line))
    this.topic = Buffer.from(flags.topics.at(-1)!)
    this.properties = encodeProperties(flags.properties.publish)
    this.client = null
    this.held = null
    this.count = 0
    this.exitCode = 0
    this.resolve = () => undefined
  }

  async run(): Promise<number> {
    const { flags, voice } = this
    const options = await clientOptions(
      flags,
      tracer(flags, line => voice.debug(line)),
      flags.body?.kind === 'lines'
    )
    const client = new MqttClient(options, this)
    this.client = client
    voice.clientId = options.clientId
    return await new Promise(resolve => {
      this.resolve = resolve
      voice.debug('sending CONNECT')
      client.connect()
    })
  }

  onConnected(connack: Connack): void {
    const { voice, source } = this
    voice.clientId = this.client?.clientId ?? ''
    voice.debug(`received CONNACK (${connack.code})`)
    if (this.count === 0 && this.held === null) {
      source.onReady = () => this.feed()
      source.start()
    }
    this.feed()
  }

  onMessage(): void {
    // Nothing is subscribed; a session may have been.
  }

  onSettled(token: number, reason: number): void {
    if (reason > 127) {
      this.voice.error(`Warning: Publish ${token} failed: ${reasonText(reason)}.`)
    }
    this.feed()
  }

  onRoom(): void {
    this.feed()
  }

  onDisconnected(end: ClientEnd, retryMs: number): void {
    if (retryMs >= 0) return
    const { flags, voice } = this
    this.source.close()
    const verdict = verdictOf(end, flags)
    for (const line of verdict.lines) voice.error(line)
    if (end.kind === 'refused') {
      voice.error(
        flags.version === 5
          ? 'Error: A network protocol error occurred when communicating with the broker.'
          : 'Error: The connection was refused.'
      )
    }
    this.resolve(end.kind === 'done' ? this.exitCode : verdict.exitCode)
  }

  private feed(): void {
    const { client, source } = this
    if (client === null || !client.isOpen) return
    for (;;) {
      const payload = this.held ?? source.next()
      if (payload === null) break
      this.held = null
      if (!this.send(client, payload)) return
    }
    if (source.isDone && client.unsettledCount === 0) {
      this.voice.debug('sending DISCONNECT')
      client.disconnect(0, this.flags.properties.disconnect)
    }
  }

  private send(client: MqttClient, payload: Buffer): boolean {
    const { qos, retain } = this.flags
    const answer = client.publish(this.topic, payload, qos, retain, this.properties, this.count + 1)
    if (answer === NO_ROOM) {
      this.held = payload
      return false
    }
    if (answer === TAKEN) {
      this.count++
      this.voice.debug(
        `sending PUBLISH (d0, q${qos}, r${retain ? 1 : 0}, m${this.count}, '${this.topic.toString()}', ... (${payload.length} bytes))`
      )
      return true
    }
    this.exitCode = 1
    const why =
      answer === QOS_NOT_SUPPORTED
        ? 'Message QoS not supported on broker, try a lower QoS.'
        : answer === RETAIN_NOT_SUPPORTED
          ? 'the broker keeps no retained messages.'
          : 'Message payload is too large.'
    this.voice.error(`Error: ${why}`)
    client.disconnect(0, this.flags.properties.disconnect)
    return false
  }
}
