/** A TCP relay before a broker that takes one MQTT QoS 0 PUBLISH out of what the clients send. */
import { connect, createServer, type Server } from 'node:net'

/** Removes whole packets that begin a chunk: clients that send one packet at a time. */
export class LossyRelay {
  lost = 0
  private readonly server: Server

  private constructor(server: Server) {
    this.server = server
  }

  /** `loses`: how many PUBLISHes go missing. */
  static async start(port: number, loses: number): Promise<LossyRelay> {
    const server = createServer(client => {
      const broker = connect({ host: '127.0.0.1', port })
      client.on('data', chunk => {
        if (relay.lost < loses && (chunk[0]! & 0xf6) === 0x30 && chunk[1]! + 2 === chunk.length) {
          relay.lost++
        } else broker.write(chunk)
      })
      broker.pipe(client)
      client.on('close', () => broker.destroy())
      broker.on('close', () => client.destroy())
      client.on('error', () => undefined)
      broker.on('error', () => undefined)
    })
    const relay = new LossyRelay(server)
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    return relay
  }

  get port(): number {
    const address = this.server.address()
    if (address === null || typeof address === 'string') throw new Error('not listening')
    return address.port
  }

  close(): void {
    this.server.close()
  }
}
