/**
 * The one interface of a kind of far side. A link sends what a bridge gives it and says of each message, by its
 * sequence, what became of it; it keeps nothing, tries nothing again and decides nothing: that is the bridge's, so a
 * new kind of far side is one file in `links/`.
 */
import type { MessageProperties } from '../core/properties.ts'
import type { MessageId } from './message-id.ts'

/** Where a message goes at the far side, as the bridge's mapping says. */
export interface Target {
  readonly exchange: string
  /** As AMQP writes it. */
  readonly key: string
  /** Beside the message's own, which they replace. */
  readonly headers: readonly (readonly [name: string, value: string])[]
}

/** A message on its way. Its bytes are its own. */
export interface Outgoing {
  /** Names it between bridge and link. */
  readonly sequence: number
  readonly id: MessageId
  readonly target: Target
  /** With the target's headers and the identifier in them. */
  readonly properties: MessageProperties
  readonly payload: Buffer
}

/**
 * Why the far side did not take a message. `busy`: it takes none now, or cannot now; `refused`: not this one, as
 * things are there; `permanent`: never this one.
 */
export interface Refusal {
  readonly kind: 'busy' | 'refused' | 'permanent'
  readonly reason: string
}

/** Why a link is over, or did not open. */
export interface Loss {
  readonly reason: string
  /** An operator must act: a wrong password, an exchange that is not there, an expired certificate. */
  readonly isConfig: boolean
  /** The far side closed the link because of some message that was sent and not confirmed. */
  readonly blamesMessage: boolean
}

/** What a bridge is told. Never from inside a call of its own. */
export interface LinkOwner {
  onConfirmed(sequence: number): void
  onRefused(sequence: number, refusal: Refusal): void
  /** All that was known now has been told: time to send more. */
  onTold(): void
  /** `isWritable` is true again. */
  onWritable(): void
  /** It opened, and is over. Not after `close`. */
  onLost(loss: Loss): void
}

export interface Link {
  /** What holds it up now, for people: `TLS handshake`, `far side blocks publishers`; '' is nothing. */
  readonly holdup: string
  /** Room for one more message. */
  readonly isWritable: boolean
  /** Bytes that the far side's line took: grows while a large message is on its way. */
  readonly sentBytes: number
  /** Once. Rejects with a `LinkError`; also when `signal` is aborted, whatever its library does. */
  open(signal: AbortSignal): Promise<void>
  /** Only while `isWritable`. Returns why it cannot be sent at all; else null. */
  send(outgoing: Outgoing): Refusal | null
  /** Nothing is told afterwards. `isOrderly`: say goodbye, there is nothing open. Idempotent. */
  close(isOrderly: boolean): void
}

/** Why a link did not open. */
export class LinkError extends Error {
  readonly isConfig: boolean

  constructor(message: string, isConfig: boolean, cause?: unknown) {
    super(message, { cause })
    this.name = 'LinkError'
    this.isConfig = isConfig
  }
}
