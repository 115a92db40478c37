/** PROXY protocol headers, versions 1 and 2, and the addresses that may send them. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AddressRanges, isAddressRange } from '../../src/lib/address-range.ts'
import { parseProxyHeader } from '../../src/net/proxy-protocol.ts'
import { headerOf } from '../support/proxy-header.ts'

const parse = (head: string | Buffer) => parseProxyHeader(Buffer.from(head as string))
const address = (head: string | Buffer) => {
  const header = parse(head)
  return header.kind === 'done' ? (header.remote?.address ?? null) : header.kind
}

describe('version 1', () => {
  it.each([
    ['PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n', '192.168.0.1'],
    ['PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n', '255.255.255.255'],
    ['PROXY TCP6 2001:DB8::1 ::1 4124 443\r\n', '2001:db8::1'],
    ['PROXY TCP6 2001:db8:0:0:0:0:0:1 ::1 0 0\r\n', '2001:db8::1'],
    ['PROXY TCP6 ::ffff:10.0.0.7 ::1 1 1\r\n', '10.0.0.7'],
    [
      `PROXY TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`,
      /^ffff:.*ffff$/
    ],
    ['PROXY UNKNOWN\r\n', null],
    [`PROXY UNKNOWN ${'x'.repeat(90)}\r\n`, null]
  ])('%j is taken', (head, found) => {
    const got = address(head)
    if (found instanceof RegExp) expect(got).toMatch(found)
    else expect(got).toBe(found)
    expect(parse(`${head}\x10`)).toMatchObject({ kind: 'done', bytes: head.length })
  })

  it('says the port', () => {
    expect(parse('PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n')).toMatchObject({ remote: { port: 9 } })
  })

  it.each([
    'PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n',
    'PROXY TCP4  1.2.3.4 5.6.7.8 9 10\r\n',
    'PROXY TCP4 1.2.3 5.6.7.8 9 10\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.256 9 10\r\n',
    'PROXY TCP4 ::1 5.6.7.8 9 10\r\n',
    'PROXY TCP6 1.2.3.4 ::1 9 10\r\n',
    'PROXY TCP6 fe80::1%lo ::1 9 10\r\n',
    'PROXY TCP4 01.2.3.4 5.6.7.8 9 10\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 65536 10\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 09 10\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 -1 10\r\n',
    'PROXY TCP4 1.2.3.4 5.6.7.8 9 \r\n',
    'PROXY UDP4 1.2.3.4 5.6.7.8 9 10\r\n',
    'PROXY unknown\r\n',
    'PROXY \r\n',
    'proxy TCP4 1.2.3.4 5.6.7.8 9 10\r\n',
    'GET / HTTP/1.1\r\n',
    '\x10\x10\x00\x04MQTT',
    `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`,
    `PROXY TCP4 1.2.3.4 5.6.7.8 9 10\n${'x'.repeat(100)}`
  ])('%j is refused', head => expect(parse(head).kind).toBe('bad'))

  it('is refused at the first byte that cannot belong to it', () => {
    expect(parse('PROX').kind).toBe('more')
    expect(parse('PROXI').kind).toBe('bad')
    expect(parse('P'.repeat(2)).kind).toBe('bad')
    expect(parse(`PROXY ${'x'.repeat(100)}`).kind).toBe('more')
    expect(parse(`PROXY ${'x'.repeat(101)}`).kind).toBe('bad')
  })
})

describe('version 2', () => {
  const tlv = (type: number, value: string) =>
    Buffer.concat([Buffer.from([type, 0, value.length]), Buffer.from(value)])

  it.each([
    ['IPv4', headerOf({ address: '10.1.2.3', port: 777 }), '10.1.2.3'],
    ['IPv6', headerOf({ address: '2001:db8::7', port: 1 }), '2001:db8::7'],
    ['IPv4 in IPv6', headerOf({ address: '::ffff:10.0.0.9', port: 1 }), '10.0.0.9'],
    ['UDP over IPv4', headerOf({ address: '10.1.2.3', port: 7, family: 0x12 }), '10.1.2.3'],
    ['LOCAL', headerOf({ command: 0x20, family: 0, body: Buffer.alloc(0) }), null],
    ['LOCAL with something', headerOf({ command: 0x20, address: '1.2.3.4', port: 1 }), null],
    ['UNSPEC', headerOf({ family: 0, body: Buffer.alloc(0) }), null],
    ['a Unix socket', headerOf({ family: 0x31, body: Buffer.alloc(216, 65) }), null]
  ])('of %s is taken', (_what, head, found) => {
    expect(address(head)).toBe(found)
    expect(parse(Buffer.concat([head, Buffer.from('more')]))).toMatchObject({ bytes: head.length })
  })

  it('may carry TLVs, those about TLS included, which are skipped', () => {
    const tls = Buffer.concat([Buffer.from([1, 0, 0, 0, 0]), tlv(0x21, 'TLSv1.3'), tlv(0x22, 'cn')])
    const tlvs = Buffer.concat([
      tlv(1, 'mqtt'),
      tlv(2, 'a.example'),
      tlv(0x20, String(tls)),
      tlv(4, '')
    ])
    expect(address(headerOf({ address: '10.1.2.3', port: 777, tlvs }))).toBe('10.1.2.3')
  })

  it('has at most 536 bytes', () => {
    const upTo = (bytes: number) => {
      const tlvs = Buffer.concat([Buffer.from([4, 0, 0]), Buffer.alloc(bytes - 16 - 12 - 3)])
      tlvs.writeUInt16BE(tlvs.length - 3, 1)
      return headerOf({ address: '10.1.2.3', port: 777, tlvs })
    }
    expect(upTo(536)).toHaveLength(536)
    expect(address(upTo(536))).toBe('10.1.2.3')
    expect(address(upTo(537))).toBe('bad')
    expect(address(upTo(537).subarray(0, 16))).toBe('bad')
  })

  it.each([
    ['version 1', headerOf({ command: 0x11, address: '1.2.3.4', port: 1 })],
    ['version 3', headerOf({ command: 0x31, address: '1.2.3.4', port: 1 })],
    ['an unknown command', headerOf({ command: 0x22, address: '1.2.3.4', port: 1 })],
    ['an unknown family', headerOf({ family: 0x41, body: Buffer.alloc(12) })],
    ['an unknown transport', headerOf({ family: 0x13, body: Buffer.alloc(12) })],
    ['too few bytes for IPv4', headerOf({ family: 0x11, body: Buffer.alloc(11) })],
    ['too few bytes for IPv6', headerOf({ family: 0x21, body: Buffer.alloc(35) })],
    ['a TLV of one byte', headerOf({ address: '1.2.3.4', port: 1, tlvs: Buffer.from([4]) })],
    ['a TLV cut short', headerOf({ address: '1.2.3.4', port: 1, tlvs: Buffer.from([4, 0, 9, 1]) })],
    ['a wrong signature', Buffer.from('0d0a0d0a000d0a5155495409', 'hex')]
  ])('with %s is refused', (_what, head) => expect(address(head)).toBe('bad'))
})

describe('any header', () => {
  it('asks for more until its last byte', () => {
    const heads = [
      Buffer.from('PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n'),
      headerOf({ address: '10.1.2.3', port: 777 }),
      headerOf({ address: '2001:db8::7', port: 1, tlvs: Buffer.from([4, 0, 0]) })
    ]
    for (const head of heads) {
      for (let end = 0; end < head.length; end++) {
        expect(parseProxyHeader(head.subarray(0, end)).kind, `${end}`).toBe('more')
      }
      expect(parseProxyHeader(head).kind).toBe('done')
    }
  })

  it('is decided within its bound, whatever it is', () => {
    const signatures = [Buffer.from('PROXY '), Buffer.from('0d0a0d0a000d0a515549540a', 'hex')]
    fc.assert(
      fc.property(
        fc.constantFrom(...signatures),
        fc.uint8Array({ maxLength: 600 }),
        (sign, rest) => {
          const head = Buffer.concat([sign, rest])
          const header = parseProxyHeader(head)
          if (header.kind === 'done') return header.bytes <= head.length && header.bytes <= 536
          return header.kind === 'bad' || head.length < 536
        }
      )
    )
  })
})

describe('address ranges', () => {
  it.each([
    ['10.0.0.7', '10.0.0.7', true],
    ['10.0.0.7', '::ffff:10.0.0.7', true],
    ['10.0.0.7', '10.0.0.8', false],
    ['10.0.0.0/8', '10.255.1.2', true],
    ['10.0.0.0/8', '11.0.0.1', false],
    ['0.0.0.0/0', '8.8.8.8', true],
    ['0.0.0.0/0', '::1', false],
    ['fd00::/8', 'fd12::1', true],
    ['fe80::/10', 'fe80::1%eth0', true],
    ['::1', '127.0.0.1', false],
    ['unix', '', true],
    ['10.0.0.7', '', false],
    ['10.0.0.7', 'x', false]
  ])('%s and %j: %s', (range, one, is) => {
    expect(isAddressRange(range)).toBe(true)
    expect(new AddressRanges([range]).includes(one)).toBe(is)
  })

  it.each([
    '',
    '10.0.0',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    'host',
    'fe80::1%eth0'
  ])('%j is none', text => expect(isAddressRange(text)).toBe(false))
})
