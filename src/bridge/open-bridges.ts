/** Bridges with the real kinds of far side: imported when some are configured. */
import type { Broker } from '../broker/broker.ts'
import { FORM_AMQP } from '../core/message.ts'
import { systemClock } from '../lib/clock.ts'
import { Bridges } from './bridges.ts'
import type { Link, LinkOwner } from './link.ts'
import { AmqpLink } from './links/amqp.ts'
import type { BridgeSettings } from './settings.ts'

/** `origin`: the store's name. */
export function openBridges(broker: Broker, origin: string): Bridges {
  const makeLink = (settings: BridgeSettings, owner: LinkOwner): Link =>
    new AmqpLink(settings, owner, broker.propertyEncoders[FORM_AMQP]!)
  const clock = systemClock
  const bridges = new Bridges({ broker, clock, origin, random: Math.random, makeLink })
  bridges.start()
  return bridges
}
