/** What was published, what became of it, and who got it: the memory of the crash tests. */

export interface SimMessage {
  readonly publisher: string
  readonly sequence: number
  readonly topic: string
  readonly qos: number
  readonly bytes: number
  /** It is stored once at most, whatever happens: QoS 2, or never sent again. */
  readonly isOnce: boolean
  /** The broker has taken it over: PUBACK, PUBREC or basic.ack came. */
  isAcked: boolean
  /** The broker refused it: whether it was kept the first time nobody knows. */
  isRefused: boolean
  /** Flows that must get it once it is acknowledged. */
  readonly flows: Set<string>
}

/** One line of the text, then a fill that follows from the number. */
export function payloadOf(publisher: string, sequence: number, bytes: number): Buffer {
  const head = Buffer.from(`${publisher}:${sequence}:${bytes}\n`)
  const payload = Buffer.alloc(Math.max(bytes, head.length), sequence & 255)
  head.copy(payload)
  return payload
}

/** Who receives what: a subscriber or a queue. */
export class Flow {
  readonly name: string
  /** QoS 2 to the end: each message once. */
  readonly isExact: boolean
  /** Messages that may be missing, counted drops: of a queue with a bound. */
  isBounded = false
  readonly counts = new Map<string, number>()
  /** Settled in a way that was durable: they must not come again. */
  readonly settled = new Set<string>()
  /** Settlements that may not be on the disk: the ticket behind which they are. */
  readonly settling = new Map<string, number>()
  readonly #newest = new Map<string, number>()
  /** Not marked as redelivered, since the last start. */
  readonly fresh = new Set<string>()

  constructor(name: string, isExact: boolean) {
    this.name = name
    this.isExact = isExact
  }

  /** What is wrong with this delivery; null: nothing. */
  receive(message: SimMessage, isRedelivery: boolean): string | null {
    const key = `${message.publisher}:${message.sequence}`
    const count = (this.counts.get(key) ?? 0) + 1
    this.counts.set(key, count)
    if (this.isExact && message.qos === 2 && count > 1) return `${this.name}: ${key} came twice`
    if (message.isOnce && this.settled.has(key)) {
      return `${this.name}: ${key} was settled and came back`
    }
    if (message.isOnce && !isRedelivery) {
      if (this.fresh.has(key)) return `${this.name}: ${key} is in the queue twice`
      this.fresh.add(key)
    }
    // QoS 0 goes past what waits.
    if (count > 1 || message.qos === 0) return null
    // A first copy of QoS 1 may have been dropped by the bound, and a second come later.
    if (this.isBounded && !message.isOnce) return null
    const newest = this.#newest.get(message.publisher) ?? -1
    if (message.sequence < newest) return `${this.name}: ${key} came behind ${newest}`
    this.#newest.set(message.publisher, message.sequence)
    return null
  }

  has(message: SimMessage): boolean {
    return this.counts.has(`${message.publisher}:${message.sequence}`)
  }

  /** The power is gone: what of the settlements was durable stays so, of the rest nothing is known. */
  crashed(durable: number): void {
    for (const [key, ticket] of this.settling) if (ticket <= durable) this.settled.add(key)
    this.settling.clear()
    this.fresh.clear()
  }
}

export class SimMessages {
  readonly all = new Map<string, SimMessage>()
  readonly flows = new Map<string, Flow>()
  readonly violations: string[] = []
  #sequences = new Map<string, number>()

  flow(name: string, isExact = false): Flow {
    let flow = this.flows.get(name)
    if (flow === undefined) {
      flow = new Flow(name, isExact)
      this.flows.set(name, flow)
    }
    return flow
  }

  create(
    publisher: string,
    topic: string,
    qos: number,
    bytes: number,
    flows: Iterable<string>
  ): SimMessage {
    const sequence = (this.#sequences.get(publisher) ?? 0) + 1
    this.#sequences.set(publisher, sequence)
    const isAcked = false
    const isOnce = qos !== 1
    const message = {
      publisher,
      sequence,
      topic,
      qos,
      bytes,
      isOnce,
      isAcked,
      isRefused: false,
      flows: new Set(flows)
    }
    this.all.set(`${publisher}:${sequence}`, message)
    return message
  }

  /** The message that a payload is; a violation if there is none, or not with these bytes. */
  find(payload: Buffer): SimMessage | null {
    const [publisher = '', sequence, bytes] = payload
      .toString('latin1', 0, Math.max(0, payload.indexOf(10)))
      .split(':')
    const message = this.all.get(`${publisher}:${sequence}`)
    if (message === undefined) {
      this.violations.push(`a phantom: ${payload.toString('latin1', 0, 40)}`)
      return null
    }
    if (!payload.equals(payloadOf(publisher, Number(sequence), Number(bytes)))) {
      this.violations.push(`wrong bytes in ${publisher}:${sequence}`)
    }
    return message
  }

  receive(flow: Flow, payload: Buffer, isRedelivery: boolean): SimMessage | null {
    const message = this.find(payload)
    if (message === null) return null
    const fault = flow.receive(message, isRedelivery)
    if (fault !== null) this.violations.push(fault)
    return message
  }

  /** Acknowledged messages that somebody did not get. To be called when everything was fetched. */
  missing(flow: Flow): string[] {
    const keys: string[] = []
    for (const [key, message] of this.all) {
      if (message.isAcked && message.flows.has(flow.name) && !flow.has(message)) keys.push(key)
    }
    return keys
  }
}
