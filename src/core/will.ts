/** A will: the message that is published when its client is lost (MQTT 5 §3.1.2.5). */
export class Will {
  readonly topic: string
  readonly payload: Buffer
  /** MQTT 5 property bytes of a PUBLISH, without the expiry. */
  readonly properties: Buffer
  readonly qos: number
  readonly retain: boolean
  /** Message Expiry Interval in seconds, starting when it is published; -1 = none. */
  readonly expirySeconds: number
  readonly delaySeconds: number
  /** Store time in milliseconds at which it is published; 0 while its client is connected. */
  dueAt: number

  constructor(fields: {
    topic: string
    payload: Buffer
    properties: Buffer
    qos: number
    retain: boolean
    expirySeconds: number
    delaySeconds: number
  }) {
    this.topic = fields.topic
    this.payload = fields.payload
    this.properties = fields.properties
    this.qos = fields.qos
    this.retain = fields.retain
    this.expirySeconds = fields.expirySeconds
    this.delaySeconds = fields.delaySeconds
    this.dueAt = 0
  }
}
