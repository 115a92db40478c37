/** `mqtt.packetLimits`: what each text says. */
import assert from 'node:assert/strict'
import { shown } from './mistake.ts'
import type { Parsed } from './values.ts'

export interface PacketLimitOption {
  readonly kind: 'client' | 'listener'
  readonly pattern: string
  readonly bytesMax: number
}

/** A PUBLISH with a short topic and a few bytes. */
const PACKET_LIMIT_MIN = 16
const PORT_MAX = 65_535

/** Reads `client:esp-*=256` or `listener:1884=256`. */
export function parsePacketLimit(text: string): Parsed<PacketLimitOption> {
  const found = /^(client|listener):(.+)=(\d{1,9})$/.exec(text)
  const form = 'is not of the form client:ID=BYTES or listener:PORT=BYTES'
  if (found === null) return { ok: false, why: `${shown(text)} ${form}` }
  const kind = found[1] as PacketLimitOption['kind']
  const pattern = found[2]!
  const bytesMax = Number(found[3])
  if (kind === 'listener' && !isPort(pattern)) {
    return { ok: false, why: `${shown(text)} names no port` }
  }
  if (bytesMax < PACKET_LIMIT_MIN) {
    return {
      ok: false,
      why: `${shown(text)}: ${bytesMax} is less than ${PACKET_LIMIT_MIN}, the least allowed`
    }
  }
  return { ok: true, value: { kind, pattern, bytesMax } }
}

/** Of texts that `loadOptions` has let pass. */
export function packetLimitsOf(texts: readonly string[]): PacketLimitOption[] {
  return texts.map(text => {
    const parsed = parsePacketLimit(text)
    assert(parsed.ok)
    return parsed.value
  })
}

/** Written as a listener's port is compared: without leading zeros. */
function isPort(text: string): boolean {
  return /^[1-9]\d{0,4}$/.test(text) && Number(text) <= PORT_MAX
}
