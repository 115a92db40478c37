/** PROXY protocol headers of version 2, right and wrong. */
import { isIP } from 'node:net'

export interface HeaderParts {
  /** Default: PROXY. */
  command?: number
  /** Default: TCP over the address's IP. */
  family?: number
  address?: string
  port?: number
  tlvs?: Buffer
  /** Instead of addresses. */
  body?: Buffer
}

export function headerOf(parts: HeaderParts): Buffer {
  const { command = 0x21, address = '', port = 0, tlvs = Buffer.alloc(0) } = parts
  const isV4 = isIP(address) === 4
  const family = parts.family ?? (isV4 ? 0x11 : 0x21)
  const ports = Buffer.from([port >> 8, port & 255, 0, 80])
  const target = isV4 ? Buffer.from([127, 0, 0, 1]) : Buffer.alloc(16, 1)
  const addresses = parts.body ?? Buffer.concat([isV4 ? v4(address) : v6(address), target, ports])
  const length = addresses.length + tlvs.length
  return Buffer.concat([
    Buffer.from('0d0a0d0a000d0a515549540a', 'hex'),
    Buffer.from([command, family, length >> 8, length & 255]),
    addresses,
    tlvs
  ])
}

function v4(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number))
}

function v6(address: string): Buffer {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address)
  const text =
    dotted === null
      ? address
      : `${dotted[1]}${v4(dotted[2]!)
          .toString('hex')
          .replace(/(.{4})/, '$1:')}`
  const [head = '', tail = ''] = text.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const [left, right] = [groups(head), groups(tail)]
  const zeros = new Array<string>(8 - left.length - right.length).fill('0')
  const all = [...left, ...zeros, ...right].map(group => group.padStart(4, '0'))
  return Buffer.from(all.join(''), 'hex')
}
