/** Certificates and lists of revoked ones (RFC 5280), signed with the key of an authority. */
import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto'
import { isIP } from 'node:net'
import {
  bitString,
  type DerValue,
  integer,
  oid,
  readAll,
  sequence,
  smallInteger,
  TAG,
  time,
  tlv
} from '../lib/der.ts'

/** Who signs. */
export interface Issuer {
  /** Its name, as it stands in its certificate. */
  readonly name: Buffer
  readonly keyId: Buffer
  readonly key: KeyObject
}

export type Purpose = 'authority' | 'server' | 'device'

export interface CertificateParts {
  readonly purpose: Purpose
  readonly commonName: string
  /** Names and addresses that the server is called by. */
  readonly hosts: readonly string[]
  readonly publicKey: KeyObject
  readonly notBefore: Date
  readonly notAfter: Date
}

export interface RevokedEntry {
  /** Upper-case hexadecimal, as Node shows it. */
  readonly serialNumber: string
  readonly date: Date
}

const OID = {
  commonName: '2.5.4.3',
  ecdsaSha256: '1.2.840.10045.4.3.2',
  rsaSha256: '1.2.840.113549.1.1.11',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  alternativeNames: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  crlNumber: '2.5.29.20',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2'
} as const

/** Bits from the left: digitalSignature 0; keyCertSign 5, cRLSign 6 (§4.2.1.3). */
const SIGNS = bitString(Buffer.from([0x80]), 7)
const CERTIFIES = bitString(Buffer.from([0x06]), 1)
const YES = tlv(TAG.boolean, Buffer.from([0xff]))
/** §4.1.2.2: at most 20 bytes, not 0. */
const SERIAL_BYTES = 16

/** A certificate in DER. `issuer` null: it is signed with `ownKey`, as an authority's is. */
export function makeCertificate(
  parts: CertificateParts,
  issuer: Issuer | null,
  ownKey: KeyObject | null = null
): Buffer {
  const subject = nameOf(parts.commonName)
  const subjectKeyId = keyIdOf(parts.publicKey)
  const by = issuer ?? { name: subject, keyId: subjectKeyId, key: ownKey! }
  const serial = randomBytes(SERIAL_BYTES)
  // Never 0, never negative, always as long.
  serial[0] = (serial[0]! & 0x3f) | 0x40
  const body = sequence(
    tlv(0xa0, smallInteger(2)),
    integer(serial),
    algorithmOf(by.key),
    by.name,
    sequence(time(parts.notBefore), time(parts.notAfter)),
    subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(...extensionsOf(parts, subjectKeyId, by.keyId)))
  )
  return signed(body, by.key)
}

/** A list of revoked certificates in DER. */
export function makeCrl(
  issuer: Issuer,
  entries: readonly RevokedEntry[],
  thisUpdate: Date,
  nextUpdate: Date
): Buffer {
  const revoked = entries.map(({ serialNumber, date }) =>
    sequence(integer(Buffer.from(serialNumber, 'hex')), time(date))
  )
  const number = Buffer.alloc(8)
  number.writeBigUInt64BE(BigInt(thisUpdate.getTime()))
  const body = sequence(
    smallInteger(1),
    algorithmOf(issuer.key),
    issuer.name,
    time(thisUpdate),
    time(nextUpdate),
    ...(revoked.length === 0 ? [] : [sequence(...revoked)]),
    tlv(
      0xa0,
      sequence(
        extension(OID.authorityKeyId, false, sequence(tlv(0x80, issuer.keyId))),
        extension(OID.crlNumber, false, integer(number))
      )
    )
  )
  return signed(body, issuer.key)
}

/** The subject of a certificate in DER, and the identifier of its key. */
export function readIssuer(certificate: Buffer, key: KeyObject, publicKey: KeyObject): Issuer {
  const [body] = readAll(readAll(certificate)[0]!.content)
  const fields = readAll(body!.content)
  // [0] version, serial, algorithm, issuer, validity, subject, key, ..., [3] extensions
  const name = fields[5]!.whole
  const keyId = keyIdIn(fields.at(-1)!) ?? keyIdOf(publicKey)
  return { name, keyId, key }
}

/** What a list of revoked certificates in DER names. */
export function readCrl(crl: Buffer): RevokedEntry[] {
  const [body] = readAll(readAll(crl)[0]!.content)
  const fields = readAll(body!.content)
  // version, algorithm, issuer, this update, next update, entries
  const entries = fields[5]
  if (entries === undefined || entries.tag !== TAG.sequence) return []
  return readAll(entries.content).map(entry => {
    const [serial, date] = readAll(entry.content)
    const hex = serial!.content.toString('hex').toUpperCase()
    return { serialNumber: hex.replace(/^00(?=.)/, ''), date: readTime(date!) }
  })
}

function readTime({ tag, content }: DerValue): Date {
  const digits = tag === TAG.utcTime ? `20${content.toString()}` : content.toString()
  return new Date(digits.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'))
}

function signed(body: Buffer, key: KeyObject): Buffer {
  return sequence(body, algorithmOf(key), bitString(sign('sha256', body, key)))
}

function algorithmOf(key: KeyObject): Buffer {
  if (key.asymmetricKeyType === 'rsa') {
    return sequence(oid(OID.rsaSha256), Buffer.from([0x05, 0x00]))
  }
  return sequence(oid(OID.ecdsaSha256))
}

function nameOf(commonName: string): Buffer {
  const value = tlv(TAG.utf8String, Buffer.from(commonName))
  return sequence(tlv(TAG.set, sequence(oid(OID.commonName), value)))
}

/** §4.2.1.2 (1): SHA-1 of the key's bits. It names the key, nothing is signed with it. */
function keyIdOf(publicKey: KeyObject): Buffer {
  const info = readAll(publicKey.export({ type: 'spki', format: 'der' }))[0]!
  const bits = readAll(info.content)[1]!
  return createHash('sha1').update(bits.content.subarray(1)).digest()
}

function keyIdIn(extensions: DerValue): Buffer | null {
  if (extensions.tag !== 0xa3) return null
  const wanted = oid(OID.subjectKeyId)
  for (const { content } of readAll(readAll(extensions.content)[0]!.content)) {
    const parts = readAll(content)
    if (parts[0]!.whole.equals(wanted)) return readAll(parts.at(-1)!.content)[0]!.content
  }
  return null
}

function extensionsOf(parts: CertificateParts, subjectKeyId: Buffer, keyId: Buffer): Buffer[] {
  const { purpose, hosts } = parts
  const ids = [
    extension(OID.subjectKeyId, false, tlv(TAG.octetString, subjectKeyId)),
    extension(OID.authorityKeyId, false, sequence(tlv(0x80, keyId)))
  ]
  if (purpose === 'authority') {
    // It issues no further authorities.
    const constraints = sequence(YES, smallInteger(0))
    return [
      extension(OID.basicConstraints, true, constraints),
      extension(OID.keyUsage, true, CERTIFIES),
      ...ids
    ]
  }
  const use = purpose === 'server' ? OID.serverAuth : OID.clientAuth
  const names = hosts.length === 0 ? [] : [sequence(...hosts.map(generalName))]
  return [
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.keyUsage, true, SIGNS),
    extension(OID.extendedKeyUsage, false, sequence(oid(use))),
    ...names.map(value => extension(OID.alternativeNames, false, value)),
    ...ids
  ]
}

function extension(id: string, isCritical: boolean, value: Buffer): Buffer {
  const critical = isCritical ? [YES] : []
  return sequence(oid(id), ...critical, tlv(TAG.octetString, value))
}

/** §4.2.1.6: [2] a DNS name, [7] an address. */
function generalName(host: string): Buffer {
  return isIP(host) === 0 ? tlv(0x82, Buffer.from(host)) : tlv(0x87, addressBytes(host))
}

/** Four or sixteen bytes of an address that `isIP` knows. */
function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number))
  const url = new URL(`http://[${address}]/`)
  // The URL parser writes every part in hexadecimal, the longest run of zeros as `::`.
  const [head = '', tail] = url.hostname.slice(1, -1).split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const left = groups(head)
  const right = groups(tail ?? '')
  const zeros = new Array<string>(8 - left.length - right.length).fill('0')
  const bytes = Buffer.alloc(16)
  for (const [i, group] of [...left, ...zeros, ...right].entries()) {
    bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * i)
  }
  return bytes
}
