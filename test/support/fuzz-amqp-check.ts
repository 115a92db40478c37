/**
 * What a broker may send to an AMQP client: whole frames, methods as the specification draws them, contents in one
 * piece, and no answer that nobody asked for. Written without the broker's own codec.
 */

export interface RawFrame {
  readonly type: number
  readonly channel: number
  readonly payload: Buffer
}

const HEADER = Buffer.from('AMQP\0\0\x09\x01', 'latin1')

/** The frames that are whole; `rest`: how many bytes are left. */
export function splitFrames(bytes: Buffer, start = 0): { frames: RawFrame[]; rest: number } {
  const frames: RawFrame[] = []
  let at = start
  while (bytes.length - at >= 8) {
    const end = at + 7 + bytes.readUInt32BE(at + 3)
    if (end >= bytes.length || bytes[end] !== 0xce) break
    frames.push({
      type: bytes[at]!,
      channel: bytes.readUInt16BE(at + 1),
      payload: bytes.subarray(at + 7, end)
    })
    at = end + 1
  }
  return { frames, rest: bytes.length - at }
}

/** Arguments of what a broker may send: o octet, s short, l long, L long long, h short string, S long string, F table. */
const ARGUMENTS: ReadonlyMap<string, string> = new Map([
  ['10.10', 'ooFSS'],
  ['10.30', 'sls'],
  ['10.41', 'h'],
  ['10.50', 'shss'],
  ['10.51', ''],
  ['10.60', 'h'],
  ['10.61', ''],
  ['10.71', ''],
  ['20.11', 'S'],
  ['20.21', 'o'],
  ['20.40', 'shss'],
  ['20.41', ''],
  ['40.11', ''],
  ['40.21', ''],
  ['40.31', ''],
  ['40.51', ''],
  ['50.11', 'hll'],
  ['50.21', ''],
  ['50.51', ''],
  ['50.31', 'l'],
  ['50.41', 'l'],
  ['60.11', ''],
  ['60.21', 'h'],
  ['60.30', 'ho'],
  ['60.31', 'h'],
  ['60.50', 'shhh'],
  ['60.60', 'hLohh'],
  ['60.71', 'Lohhl'],
  ['60.72', 'h'],
  ['60.80', 'Lo'],
  ['60.111', ''],
  ['60.120', 'Lo'],
  ['85.11', ''],
  ['90.11', ''],
  ['90.21', ''],
  ['90.31', '']
])

/** Which request an answer belongs to. */
const REQUEST: ReadonlyMap<string, string> = new Map([
  ['20.11', '20.10'],
  ['20.21', '20.20'],
  ['20.41', '20.40'],
  ['40.11', '40.10'],
  ['40.21', '40.20'],
  ['40.31', '40.30'],
  ['40.51', '40.40'],
  ['50.11', '50.10'],
  ['50.21', '50.20'],
  ['50.51', '50.50'],
  ['50.31', '50.30'],
  ['50.41', '50.40'],
  ['60.11', '60.10'],
  ['60.21', '60.20'],
  ['60.31', '60.30'],
  ['60.71', '60.70'],
  ['60.72', '60.70'],
  ['60.50', '60.40'],
  ['60.111', '60.110'],
  ['85.11', '85.10'],
  ['90.11', '90.10'],
  ['90.21', '90.20'],
  ['90.31', '90.30'],
  ['10.71', '10.70'],
  ['10.51', '10.50']
])

interface Content {
  readonly name: string
  readonly channel: number
  readonly method: Buffer
  header: Buffer | null
  bodyBytes: number
  readonly parts: Buffer[]
}

/** One thing that the client is told. */
export interface Told {
  readonly channel: number
  readonly name: string
  /** Arguments; of a content also properties and body. */
  readonly bytes: Buffer
}

/** Fields of a method's arguments; throws unless they are exactly there. */
function checkArguments(name: string, payload: Buffer): void {
  const signature = ARGUMENTS.get(name)
  if (signature === undefined) throw new Error(`method ${name} from a broker`)
  let at = 4
  const skip = (bytes: number) => {
    if (at + bytes > payload.length) throw new Error(`method ${name} cut short`)
    at += bytes
    return at - bytes
  }
  for (const kind of signature) {
    if (kind === 'o') skip(1)
    else if (kind === 's') skip(2)
    else if (kind === 'l') skip(4)
    else if (kind === 'L') skip(8)
    else if (kind === 'h') skip(payload[skip(1)]!)
    else skip(payload.readUInt32BE(skip(4)))
  }
  if (at !== payload.length)
    throw new Error(`method ${name} with ${payload.length - at} bytes more`)
}

/** Walks the frames and throws for what may not be. */
class Listener {
  readonly told: Told[] = []
  readonly #sent: Sent | null
  readonly #open = new Set<number>()
  readonly #closing = new Set<number>()
  readonly #tags = new Map<number, number>()
  readonly #counts = new Map<string, number>()
  #content: Content | null = null
  #state: 'new' | 'started' | 'closing' | 'closed' = 'new'

  constructor(sent: Sent | null) {
    this.#sent = sent
    if (sent === null) {
      this.#state = 'started'
      this.#open.add(1)
    }
  }

  take({ type, channel, payload }: RawFrame): void {
    if (type === 8) {
      if (channel !== 0 || payload.length > 0) throw new Error('heartbeat')
      return
    }
    if (type === 1) this.#method(channel, payload)
    else if (type === 2) this.#header(channel, payload)
    else if (type === 3) this.#body(channel, payload)
    else throw new Error(`frame type ${type}`)
  }

  end(): void {
    if (this.#content !== null) throw new Error(`${this.#content.name} without its content`)
  }

  #method(channel: number, payload: Buffer): void {
    this.end()
    if (payload.length < 4) throw new Error('a method without its name')
    const name = `${payload.readUInt16BE(0)}.${payload.readUInt16BE(2)}`
    checkArguments(name, payload)
    if (channel === 0) this.#connectionMethod(name)
    else this.#channelMethod(channel, name)
    this.#answer(channel, name)
    if (name === '60.50' || name === '60.60' || name === '60.71') {
      this.#content = { name, channel, method: payload, header: null, bodyBytes: 0, parts: [] }
      if (name !== '60.50') this.#tag(channel, name, payload)
    } else this.told.push({ channel, name, bytes: payload.subarray(4) })
  }

  #connectionMethod(name: string): void {
    if (!name.startsWith('10.')) throw new Error(`${name} on channel 0`)
    if ((this.#state === 'new') !== (name === '10.10')) throw new Error(`${name} at the begin`)
    // Whoever asks twice is answered twice.
    if (this.#state === 'closed' && name !== '10.51') throw new Error(`${name} behind the end`)
    if (this.#state === 'closing' && name !== '10.51') throw new Error(`${name} behind close`)
    if (name === '10.10') this.#state = 'started'
    else if (name === '10.50') this.#state = 'closing'
    else if (name === '10.51') this.#state = 'closed'
  }

  #channelMethod(channel: number, name: string): void {
    if (this.#state !== 'started') throw new Error(`${name} on ${channel} behind close`)
    if (name === '20.11') {
      if (this.#open.has(channel)) throw new Error(`channel ${channel} opened twice`)
      this.#open.add(channel)
      this.#closing.delete(channel)
      this.#tags.delete(channel)
    } else if (name === '20.41') {
      if (!this.#open.delete(channel) && !this.#closing.has(channel)) {
        throw new Error(`channel ${channel} closed twice`)
      }
    } else if (!this.#open.has(channel)) throw new Error(`${name} on ${channel}, which is closed`)
    else if (name === '20.40') {
      this.#open.delete(channel)
      this.#closing.add(channel)
    }
  }

  /** No answer without its request. */
  #answer(channel: number, name: string): void {
    if (this.#sent === null) return
    const request = REQUEST.get(name)
    if (request === undefined) return
    const key = `${channel} ${request}`
    const count = (this.#counts.get(key) ?? 0) + 1
    this.#counts.set(key, count)
    // A close of ours may be sent again by the client and is answered each time.
    if (count > this.#sent.count(channel, request)) {
      throw new Error(`${name} on ${channel}, ${request} was not sent so often`)
    }
  }

  #tag(channel: number, name: string, payload: Buffer): void {
    const at = name === '60.60' ? 5 + payload[4]! : 4
    const tag = Number(payload.readBigUInt64BE(at))
    if (tag <= (this.#tags.get(channel) ?? 0)) throw new Error(`delivery tag ${tag} comes late`)
    this.#tags.set(channel, tag)
  }

  #header(channel: number, payload: Buffer): void {
    const content = this.#content
    if (content === null || content.header !== null || content.channel !== channel) {
      throw new Error('a content header')
    }
    if (payload.length < 14 || payload.readUInt16BE(0) !== 60 || payload.readUInt16BE(2) !== 0) {
      throw new Error('content header')
    }
    checkProperties(payload)
    content.header = payload
    content.bodyBytes = Number(payload.readBigUInt64BE(4))
    if (content.bodyBytes === 0) this.#whole(content)
  }

  #body(channel: number, payload: Buffer): void {
    const content = this.#content
    if (content === null || content.header === null || content.channel !== channel) {
      throw new Error('a content body')
    }
    if (payload.length === 0 || payload.length > content.bodyBytes)
      throw new Error('size of a body')
    content.bodyBytes -= payload.length
    content.parts.push(payload)
    if (content.bodyBytes === 0) this.#whole(content)
  }

  #whole({ channel, name, method, header, parts }: Content): void {
    this.#content = null
    const bytes = Buffer.concat([method.subarray(4), header!.subarray(12), ...parts])
    this.told.push({ channel, name, bytes })
  }
}

const SHORT_STRINGS = [15, 14, 10, 9, 8, 7, 5, 4, 3, 2]

/** The flags of a content header and the properties behind it, which must be there to the last byte. */
function checkProperties(payload: Buffer): void {
  const flags = payload.readUInt16BE(12)
  if ((flags & 3) !== 0) throw new Error('flags of a content header')
  let at = 14
  const skip = (bytes: number) => {
    if (at + bytes > payload.length) throw new Error('properties cut short')
    at += bytes
    return at - bytes
  }
  for (let bit = 15; bit >= 2; bit--) {
    if ((flags & (1 << bit)) === 0) continue
    if (bit === 13) skip(payload.readUInt32BE(skip(4)))
    else if (bit === 12 || bit === 11) skip(1)
    else if (bit === 6) skip(8)
    else if (SHORT_STRINGS.includes(bit)) skip(payload[skip(1)]!)
  }
  if (at !== payload.length) throw new Error('properties longer than their flags')
}

/** What a client has sent, as far as it can be read. */
class Sent {
  readonly #counts = new Map<string, number>()

  constructor(input: Buffer) {
    const { frames } = splitFrames(input, HEADER.length)
    for (const { type, channel, payload } of frames) {
      if (type !== 1 || payload.length < 4) continue
      const key = `${channel} ${payload.readUInt16BE(0)}.${payload.readUInt16BE(2)}`
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    }
  }

  count(channel: number, name: string): number {
    return this.#counts.get(`${channel} ${name}`) ?? 0
  }
}

/** Throws when something in `output` is not as it must be, or was not asked for by `input`. Null: of a witness. */
export function checkAmqp(input: Buffer | null, output: Buffer, isEnded: boolean): Told[] {
  if (output.equals(HEADER) && isEnded) return []
  const { frames, rest } = splitFrames(output)
  if (rest > 0) throw new Error(`${rest} bytes that are no whole frame`)
  const sent = input === null ? null : new Sent(input)
  const listener = new Listener(sent)
  for (const frame of frames) listener.take(frame)
  listener.end()
  if (sent !== null) checkConfirms(sent, listener.told)
  return listener.told
}

/** Every publish is confirmed at most once. */
function checkConfirms(sent: Sent, told: readonly Told[]): void {
  const confirmed = new Map<number, Set<number>>()
  for (const { channel, name, bytes } of told) {
    if (name === '20.11') confirmed.set(channel, new Set())
    if (name !== '60.80' && name !== '60.120') continue
    if (sent.count(channel, '85.10') === 0) throw new Error('a confirm, and nobody asked for it')
    const known = confirmed.get(channel) ?? new Set()
    confirmed.set(channel, known)
    const last = Number(bytes.readBigUInt64BE(0))
    if (last > sent.count(channel, '60.40')) throw new Error(`confirm of ${last}`)
    const isMultiple = (bytes[8]! & 1) === 1
    if (!isMultiple && known.has(last)) throw new Error(`${last} confirmed twice`)
    for (let at = isMultiple ? 1 : last; at <= last; at++) known.add(at)
  }
}
