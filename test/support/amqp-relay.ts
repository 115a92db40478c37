/** Stands between an AMQP client and a server, and does to their line what the test says. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

const METHOD = 1
const HEARTBEAT = 8
const END = 0xce

export const BASIC_ACK = 60 * 65_536 + 80
export const EXCHANGE_DECLARE_OK = 40 * 65_536 + 11
export const OPEN_OK = 10 * 65_536 + 41

/** Class and method of a frame; 0: it is none of a method. */
function methodOf(frame: Buffer): number {
  return frame[0] === METHOD ? frame.readUInt32BE(7) : 0
}

export class AmqpRelay {
  /** What a server's frame becomes; null: it is lost. */
  onFrame: (method: number, frame: Buffer) => Buffer | null = (_, frame) => frame
  /** What comes from the client is not read. */
  isDeaf = false
  /** Nothing goes on to the server. */
  isSilent = false
  accepted = 0
  heartbeats = 0
  readonly #server: Server
  readonly #target: number
  readonly #sockets: Set<Socket> = new Set()

  constructor(target: number) {
    this.#target = target
    this.#server = createServer(client => this.#take(client))
  }

  static async open(target: number): Promise<AmqpRelay> {
    const relay = new AmqpRelay(target)
    relay.#server.listen(0, '127.0.0.1')
    await once(relay.#server, 'listening')
    return relay
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  #take(client: Socket): void {
    this.accepted++
    const server = connect(this.#target, '127.0.0.1')
    let rest: Buffer = Buffer.alloc(0)
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        client.destroy()
        server.destroy()
      })
    }
    if (this.isDeaf) client.pause()
    client.on('data', bytes => {
      if (this.isDeaf) client.pause()
      if (!this.isSilent) server.write(bytes as Buffer)
    })
    server.on('data', bytes => {
      rest = Buffer.concat([rest, bytes as Buffer])
      for (;;) {
        const length = rest.length < 7 ? Number.POSITIVE_INFINITY : rest.readUInt32BE(3) + 8
        if (rest.length < length) return
        const frame = rest.subarray(0, length)
        rest = rest.subarray(length)
        if (frame[0] === HEARTBEAT) this.heartbeats++
        const passed = this.onFrame(methodOf(frame), frame)
        if (passed !== null) client.write(passed)
      }
    })
  }

  /** connection.blocked, to whoever is there. */
  static blocked(reason: string): Buffer {
    const text = Buffer.from(reason)
    const payload = Buffer.concat([Buffer.from([0, 10, 0, 60, text.length]), text])
    const head = Buffer.from([METHOD, 0, 0, 0, 0, 0, payload.length])
    return Buffer.concat([head, payload, Buffer.from([END])])
  }

  /** Whoever is there is cut off. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** As at first: everything passes. */
  mend(): void {
    this.onFrame = (_, frame) => frame
    this.isDeaf = false
    this.isSilent = false
  }

  close(): void {
    this.#server.close()
    this.cut()
  }
}
