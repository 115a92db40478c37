/** Addresses as an operator names them: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`, or `unix` for Unix sockets. */
import { BlockList, isIP } from 'node:net'

export const UNIX = 'unix'

export class AddressRanges {
  readonly #list = new BlockList()
  readonly #hasUnix: boolean

  /** Every text must be an address range. */
  constructor(texts: readonly string[]) {
    this.#hasUnix = texts.includes(UNIX)
    for (const text of texts) {
      if (text === UNIX) continue
      const range = parseAddressRange(text)
      if (range !== null) this.#list.addSubnet(range.address, range.prefix, range.family)
    }
  }

  /** `address`: as a socket says it; undefined or '' for a Unix socket. */
  includes(address: string | undefined): boolean {
    if (address === undefined || address === '') return this.#hasUnix
    const plain = plainAddress(address)
    const family = isIP(plain)
    return family !== 0 && this.#list.check(plain, family === 4 ? 'ipv4' : 'ipv6')
  }
}

export function isAddressRange(text: string): boolean {
  return text === UNIX || parseAddressRange(text) !== null
}

/** IPv4 in IPv6 (`::ffff:10.0.0.7`) as IPv4, and without an interface (`fe80::1%eth0`). */
export function plainAddress(address: string): string {
  const plain = address.split('%')[0]!
  return /^::ffff:\d+\./i.test(plain) ? plain.slice(7) : plain
}

interface AddressRange {
  readonly address: string
  readonly prefix: number
  readonly family: 'ipv4' | 'ipv6'
}

function parseAddressRange(text: string): AddressRange | null {
  const [address = '', bits, ...more] = text.split('/')
  const version = isIP(address)
  if (version === 0 || address.includes('%') || more.length > 0) return null
  const most = version === 4 ? 32 : 128
  if (bits !== undefined && !/^\d{1,3}$/.test(bits)) return null
  const prefix = bits === undefined ? most : Number(bits)
  return prefix > most ? null : { address, prefix, family: version === 4 ? 'ipv4' : 'ipv6' }
}
