/** The MQTT front-end and the broker in this process, over real TCP and a journal in memory. */
import type { Socket } from 'node:net'
import type {
  AuthenticationResult,
  Authenticator,
  Credentials
} from '../../src/auth/authenticator.ts'
import type { Publisher } from '../../src/broker/consumer.ts'
import { publishOwn } from '../../src/broker/publish.ts'
import type { Limits } from '../../src/core/limits.ts'
import { Principal } from '../../src/core/principal.ts'
import { DEFAULT_MQTT_OPTIONS, type MqttOptions } from '../../src/mqtt/options.ts'
import { MqttServer } from '../../src/mqtt/server.ts'
import { messageOf } from './broker-rig.ts'
import { GatewayBase } from './gateway-base.ts'
import { RawMqtt } from './raw-mqtt.ts'

export interface GatewayOptions {
  limits?: Partial<Limits>
  mqtt?: Partial<MqttOptions>
  authenticate?: (credentials: Credentials) => Promise<AuthenticationResult>
  exchange?: Authenticator['exchange']
  /** Whoever it is, as what holds now; null: nobody any more. */
  principalOf?: (user: string) => Principal | null
}

export const ANYBODY = new Principal('', [], '/', [], [], true)

export class Gateway extends GatewayBase<RawMqtt> {
  readonly mqtt: MqttServer

  constructor(options: GatewayOptions = {}) {
    super(options.limits, options.principalOf ?? (() => ANYBODY))
    const authenticate =
      options.authenticate ?? (() => Promise.resolve({ ok: true, principal: ANYBODY } as const))
    this.mqtt = new MqttServer({
      broker: this.broker,
      authenticator: { authenticate, exchange: options.exchange ?? (() => null) },
      sockets: this.sockets,
      log: this.log,
      options: { ...DEFAULT_MQTT_OPTIONS, ...options.mqtt }
    })
  }

  protected override accept(socket: Socket): void {
    this.mqtt.accept(socket, {
      vhost: '/',
      isTrusted: true,
      protocol: 'mqtt',
      onClosed: () => undefined
    })
  }

  protected override clientOf(port: number): Promise<RawMqtt> {
    return RawMqtt.dial(port)
  }

  protected override tick(): void {
    this.mqtt.tick()
  }

  /** Publishes as nobody may: what the broker itself says, `$SYS`. */
  publishAsBroker(topic: string, payload: string): void {
    const nobody: Publisher = {
      principal: ANYBODY,
      clientId: '',
      vhost: this.broker.vhosts.get('/')!,
      session: null,
      onDurable: () => undefined,
      onPause: () => undefined,
      onResume: () => undefined,
      onDiskAlarm: () => undefined
    }
    publishOwn(this.broker, messageOf(topic, payload), nobody)
  }

  permissionsChanged(): void {
    this.mqtt.permissionsChanged()
  }

  /** Turns pass until something holds. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise(setImmediate)
  }

  async close(): Promise<void> {
    this.hangUp()
    await this.mqtt.close()
    this.stopListening()
  }
}
