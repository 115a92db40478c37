/** A bridge in a broker on a simulated disk, with a far side that does what the test says, and a clock that stands. */
import { Bridges } from '../../src/bridge/bridges.ts'
import {
  type Link,
  LinkError,
  type LinkOwner,
  type Outgoing,
  type Refusal
} from '../../src/bridge/link.ts'
import type { BridgeSettings } from '../../src/bridge/settings.ts'
import { type Client, messageOf, openRig, type Rig, type RigOptions, turns } from './broker-rig.ts'
import { publish } from '../../src/broker/publish.ts'
import { OwnPublisher } from '../../src/broker/own-publisher.ts'

export type { Client }

export const SETTINGS: BridgeSettings = {
  name: 'cloud',
  url: 'amqp://guest@127.0.0.1:5672',
  password: '',
  passwordFile: '',
  passwordEnv: '',
  vhost: '/',
  topics: ['a/#'],
  bindings: [],
  queue: '',
  deadLetterQueue: '',
  map: [],
  declare: { exchanges: [], queues: [], bindings: [] },
  tls: { ca: '', cert: '', key: '', servername: '', verify: true },
  limits: { messages: 0, bytes: 0, ageMs: 0, overflow: 'drop-oldest' },
  window: 10,
  stallMs: 30_000,
  retryMinMs: 500,
  retryMaxMs: 8_000,
  refusalsMax: 3,
  heartbeatSeconds: 15
}

/** One opening of the far side. */
export class FakeLink implements Link {
  holdup = ''
  isWritable = true
  sentBytes = 0
  isClosed = false
  readonly sent: Outgoing[] = []
  readonly owner: LinkOwner
  readonly #far: FarSide

  constructor(far: FarSide, owner: LinkOwner) {
    this.#far = far
    this.owner = owner
  }

  open(signal: AbortSignal): Promise<void> {
    if (this.#far.opens === 'yes') return Promise.resolve()
    if (this.#far.opens === 'never') return new Promise(() => undefined)
    void signal
    return Promise.reject(new LinkError('refused', this.#far.opens === 'config'))
  }

  send(outgoing: Outgoing): Refusal | null {
    const refusal = this.#far.refuses(outgoing)
    if (refusal !== null) return refusal
    this.sent.push(outgoing)
    this.#far.got.push(outgoing)
    return null
  }

  close(): void {
    this.isClosed = true
  }

  confirm(count = this.sent.length): void {
    for (const { sequence } of this.sent.splice(0, count)) this.owner.onConfirmed(sequence)
    this.owner.onTold()
  }

  refuse(kind: Refusal['kind'], count = 1): void {
    for (const { sequence } of this.sent.splice(0, count)) {
      this.owner.onRefused(sequence, { kind, reason: `no: ${kind}` })
    }
    this.owner.onTold()
  }

  lose(blamesMessage = false): void {
    this.owner.onLost({ reason: 'lost', isConfig: false, blamesMessage })
  }
}

export class FarSide {
  opens: 'yes' | 'no' | 'config' | 'never' = 'yes'
  refuses: (outgoing: Outgoing) => Refusal | null = () => null
  /** Everything that ever came. */
  readonly got: Outgoing[] = []
  readonly links: FakeLink[] = []

  get link(): FakeLink {
    return this.links.at(-1)!
  }

  get texts(): string[] {
    return this.got.map(({ payload }) => payload.toString())
  }
}

export class BridgeRig {
  readonly rig: Rig
  readonly far: FarSide
  readonly bridges: Bridges

  constructor(rig: Rig, far: FarSide, settings: readonly BridgeSettings[]) {
    this.rig = rig
    this.far = far
    this.bridges = new Bridges({
      broker: rig.broker,
      clock: rig.clock,
      origin: '0123456789abcdef',
      random: () => 1,
      makeLink: (_, owner) => {
        const link = new FakeLink(far, owner)
        far.links.push(link)
        return link
      }
    })
    rig.broker.bridges = this.bridges
    this.bridges.configure(settings)
  }

  static async open(settings: Partial<BridgeSettings> = {}, options: RigOptions = {}) {
    const rig = await openRig(options)
    const opened = new BridgeRig(rig, new FarSide(), [{ ...SETTINGS, ...settings }])
    await opened.pass(0)
    return opened
  }

  /** Time passes, and the bridges look at it. */
  async pass(ms: number): Promise<void> {
    await this.rig.pass(ms)
    this.bridges.tick()
    await turns(4)
  }

  async publish(...texts: string[]): Promise<void> {
    for (const text of texts) this.publishTo('a/b', text)
    await this.rig.flush()
    await turns(4)
  }

  /** Not yet durable when it returns. */
  publishTo(topic: string, text: string): number {
    const message = messageOf(topic, text)
    message.qos = 1
    message.isAwaited = true
    return publish(this.rig.broker, message, new OwnPublisher(this.rig.vhost))
  }

  get status() {
    return this.bridges.list()[0]!
  }

  get queue() {
    return this.rig.queue('bridge.cloud')
  }
}
