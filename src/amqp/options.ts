/** What an operator may choose about the AMQP front-end. */
export interface AmqpOptions {
  /** Clients choose their behaviour by it: kombu's delayed tasks stall with any other than the default. */
  product: string
  /** The version that goes with the product. */
  version: string
  /** Who we really are: `Motemq x.y.z`. */
  platform: string
  channelMax: number
  frameMax: number
  /** What we propose; the client's word counts. 0 = off. */
  heartbeatSeconds: number
  /** How long a delivery may stay open before its channel is closed; 0 = for ever. */
  consumerTimeoutMs: number
}

export const DEFAULT_AMQP_OPTIONS: Readonly<Omit<AmqpOptions, 'platform'>> = {
  product: 'RabbitMQ',
  version: '3.13.7',
  channelMax: 2047,
  frameMax: 131_072,
  heartbeatSeconds: 60,
  consumerTimeoutMs: 1_800_000
}
