/** The MQTT front-end behind real listeners, with all the stages that a connection may pass on its way to it. */
import { type ListenAddress, Lobby, type Stage } from '../../src/net/arrival.ts'
import { Admission } from '../../src/net/admission.ts'
import { type Listener, openListener } from '../../src/net/listener.ts'
import { proxyStage } from '../../src/net/proxy-protocol.ts'
import { WebSockets } from '../../src/net/web-sockets.ts'
import { Gateway, type GatewayOptions } from './gateway.ts'
import { listenAddress } from './listen-address.ts'
import { RawWebSocket, type Upgrade } from './raw-web-socket.ts'

export interface StagedOptions extends GatewayOptions {
  readonly hasUsers?: boolean
  readonly origins?: readonly string[]
  /** For all stages. */
  readonly deadlineMs?: number
}

export class StagedGateway extends Gateway {
  readonly admission = new Admission({ connectionsMax: 5_000, perSecond: 1e6, burst: 1e6 })
  readonly lobby: Lobby
  readonly webSockets: WebSockets
  /** Lines of the lobby. */
  readonly refusals: { url: string; peer: string; reason: string }[] = []
  readonly #listeners: Listener[] = []
  readonly #dialed: RawWebSocket[] = []

  constructor(options: StagedOptions = {}) {
    super(options)
    const { limits } = this.broker
    this.lobby = new Lobby({
      deadlineMs: options.deadlineMs ?? limits.loginTimeoutMs,
      budget: this.sockets,
      bytesMax: limits.preLoginTotalBytesMax,
      log: fields => this.refusals.push(fields)
    })
    this.webSockets = new WebSockets({
      origins: options.origins ?? [],
      hasUsers: () => options.hasUsers ?? false,
      packetBytesMax: limits.mqttPacketBytesMax,
      preLoginBytesMax: limits.preLoginBytesMax,
      preLoginTotalBytesMax: limits.preLoginTotalBytesMax,
      budget: this.sockets
    })
  }

  /** Opens a listener; a WebSocket one unless it says otherwise. */
  async listen(part: Partial<ListenAddress> = {}): Promise<Listener> {
    const address = listenAddress({ scheme: 'ws', isWebSocket: true, ...part })
    const listener = await openListener(address, {
      admission: this.admission,
      lobby: this.lobby,
      stagesOf: stagedBy => this.#stagesOf(stagedBy),
      onConnection: arrival => {
        this.mqtt.accept(arrival.stream, {
          vhost: '/',
          isTrusted: arrival.isTrusted,
          protocol: address.scheme,
          remote: arrival.remote,
          waitedMs: arrival.waitedMs,
          onClosed: arrival.release
        })
      }
    })
    this.#listeners.push(listener)
    return listener
  }

  /** A WebSocket to the first listener, or what became of the attempt. */
  async upgrade(part: Partial<Upgrade> = {}): Promise<RawWebSocket> {
    const client = await RawWebSocket.open({ port: this.#listeners[0]!.port, ...part })
    this.#dialed.push(client)
    return client
  }

  override async close(): Promise<void> {
    for (const client of this.#dialed) client.destroy()
    for (const listener of this.#listeners) listener.close()
    this.lobby.close()
    this.webSockets.close()
    await super.close()
  }

  #stagesOf(address: ListenAddress): readonly Stage[] {
    const stages: Stage[] = []
    if (address.proxyFrom.length > 0) stages.push(proxyStage(address.proxyFrom))
    if (address.isWebSocket) stages.push(this.webSockets.stage(address))
    return stages
  }
}
