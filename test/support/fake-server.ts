/** A server of MQTT packets whose every step a test says; over any stream. */
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { generate, type Packet, parser } from 'mqtt-packet'

export class FakePeer {
  readonly stream: Duplex
  readonly packets: Packet[] = []
  bytesRead = 0
  isEnded = false
  private readonly version: number
  private changed: () => void = () => undefined

  constructor(stream: Duplex, version = 5) {
    this.stream = stream
    this.version = version
    const reader = parser({ protocolVersion: version })
    reader.on('packet', packet => {
      this.packets.push(packet)
      this.changed()
    })
    stream.on('data', (chunk: Buffer) => {
      this.bytesRead += chunk.length
      reader.parse(chunk)
    })
    stream.on('error', () => undefined)
    stream.on('close', () => {
      this.isEnded = true
      this.changed()
    })
  }

  /** Resolves with the packets of this kind when there are `count`. */
  async got(cmd: Packet['cmd'], count = 1): Promise<Packet[]> {
    for (;;) {
      const found = this.packets.filter(packet => packet.cmd === cmd)
      if (found.length >= count) return found
      if (this.isEnded) throw new Error(`ended with ${found.length} ${cmd}`)
      await new Promise<void>(resolve => {
        this.changed = resolve
      })
    }
  }

  send(packet: Packet): boolean {
    return this.stream.write(generate(packet, { protocolVersion: this.version }))
  }

  /** Waits for the CONNECT, and answers. */
  async greet(sessionPresent: boolean, properties: object = {}): Promise<Packet> {
    const [connect] = await this.got('connect')
    const codes = { returnCode: 0, reasonCode: 0 }
    this.send({ cmd: 'connack', sessionPresent, ...codes, properties } as Packet)
    return connect!
  }
}

export class FakeServer {
  readonly server: Server
  private readonly waiting: Socket[] = []
  private accepted: ((socket: Socket) => void) | null = null

  constructor(server: Server = createServer()) {
    this.server = server
    server.on('connection', socket => {
      if (this.accepted === null) this.waiting.push(socket)
      else this.accepted(socket)
      this.accepted = null
    })
  }

  async listen(path?: string): Promise<number> {
    await new Promise<void>(resolve => {
      if (path === undefined) this.server.listen(0, '127.0.0.1', resolve)
      else this.server.listen(path, resolve)
    })
    const address = this.server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  }

  async peer(version = 5): Promise<FakePeer> {
    const socket =
      this.waiting.shift() ?? (await new Promise<Socket>(resolve => (this.accepted = resolve)))
    return new FakePeer(socket, version)
  }

  close(): void {
    for (const socket of this.waiting) socket.destroy()
    this.server.close()
  }
}
