/** `motemq certs ...`: an authority of one's own, the server's certificate, and devices'. */
import {
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  type X509Certificate
} from 'node:crypto'
import { isIP } from 'node:net'
import { hostname, networkInterfaces } from 'node:os'
import { join, resolve } from 'node:path'
import { readFileSync } from 'node:fs'
import { type LoadInput, loadOptions } from '../config/load.ts'
import { CERTS_FOLDER } from '../config/tls.ts'
import { printable } from '../lib/printable.ts'
import { ENDINGS, type Format, formatDevice, FORMATS } from './certs-format.ts'
import { CertsFolder, type Kept, newKey, SUPERSEDED, toPem } from './certs-folder.ts'
import { CommandError, EXIT_USAGE } from './exit.ts'
import { makeCertificate, type Purpose } from './x509.ts'

export interface CertsFlags {
  readonly dir?: string
  readonly host?: readonly string[]
  readonly days?: string
  readonly format?: readonly string[]
  readonly within?: string
  readonly force?: boolean
  readonly json?: boolean
}

const DAY_MS = 86_400_000
/** A device may hold the authority's certificate in its firmware. */
const CA_DAYS = 7_300
/** What Apple's devices take at most from an authority that somebody installed. */
const SERVER_DAYS = 825
const DEVICE_DAYS = 3_650
const RENEW_WITHIN_DAYS = 30
/** For clocks that are a little behind. */
const EARLIER_MS = DAY_MS
/** Before this program was written: a machine without a clock that has not asked for the time yet. */
const CLOCK_MIN_MS = Date.UTC(2024, 0, 1)

export async function initCerts(input: LoadInput, flags: CertsFlags): Promise<void> {
  const folder = await openFolder(input, flags)
  const now = checkedClock()
  const isFirst = !folder.exists(folder.caCert)
  const isForced = flags.force === true
  if (folder.exists(folder.serverCert) && !isForced) {
    throw new CommandError(
      `${folder.serverCert} is there already; renew it with: motemq certs renew (--force replaces it, the authority stays)`
    )
  }
  if (isFirst) makeAuthority(folder, now)
  const hosts = hostsOfMachine(flags.host ?? [])
  const { pem, publicKey } = newKey()
  const cert = certifyServer(folder, hosts, publicKey, now, flags)
  folder.write([
    [folder.serverKey, pem],
    [folder.serverCert, cert]
  ])
  const { validTo } = folder.read(folder.serverCert)
  say(
    `${isFirst ? 'made an authority and' : 'made'} a certificate for this broker, until ${validTo}`
  )
  say(`  in         ${folder.path}`)
  say(`  names      ${hosts.join(' ')}`)
  say('')
  say('Next:')
  const where = whereFlags(input, folder, flags)
  say(`  motemq start --listen mqtts://0.0.0.0:8883${where}`)
  say(`  mosquitto_sub --cafile ${folder.caCert} -h ${hosts[0]} -p 8883 -t '#'`)
  say('  motemq certs issue NAME                      a certificate for a device')
  say(
    `Who has ${folder.caKey} can make certificates: keep a copy elsewhere, and none where it is not needed.`
  )
}

export async function issueCert(input: LoadInput, name: string, flags: CertsFlags): Promise<void> {
  const folder = await openFolder(input, flags)
  folder.checkName(name)
  const now = checkedClock()
  const formats = formatsOf(flags)
  const certFile = folder.device(name, '.crt')
  if (folder.exists(certFile) && flags.force !== true) {
    throw new CommandError(
      `there is a certificate for ${name} already; renew it with: motemq certs renew ${name} (--force makes a new key)`
    )
  }
  const { pem, publicKey } = newKey()
  const cert = certify(folder, 'device', name, [], publicKey, now, daysOf(flags, DEVICE_DAYS))
  if (folder.exists(certFile)) say(`revoked the old one: ${revokeAll(folder, name, now)}`)
  folder.write([
    [folder.device(name, '.key'), pem],
    [certFile, cert]
  ])
  const written = writeFormats(folder, name, formats)
  say(`made a certificate for ${name}, until ${folder.read(certFile).validTo}`)
  for (const file of [certFile, folder.device(name, '.key'), ...written]) say(`  ${file}`)
}

export async function listCerts(input: LoadInput, flags: CertsFlags): Promise<void> {
  const folder = await openFolder(input, flags)
  const kept = folder.list()
  const entries = kept.map(one => describe(folder, one))
  const revoked = folder.revoked()
  if (flags.json === true) {
    const list = revoked.map(({ serialNumber, date }) => ({
      serialNumber,
      revoked: date.toISOString()
    }))
    say(JSON.stringify({ certificates: entries, revoked: list }))
    return
  }
  if (entries.length === 0) {
    say(`no certificates in ${folder.path}; make them with: motemq certs init`)
    return
  }
  const width = Math.max(...entries.map(entry => printable(entry.name).length))
  for (const { name, kind, expires, daysLeft } of entries) {
    const left = daysLeft < 0 ? 'EXPIRED' : `${daysLeft} days left`
    say(`${printable(name).padEnd(width)}  ${kind.padEnd(9)}  ${expires.slice(0, 10)}  ${left}`)
  }
  if (revoked.length > 0) say(`${revoked.length} revoked, in ${folder.crl}`)
}

export async function renewCerts(
  input: LoadInput,
  names: readonly string[],
  flags: CertsFlags
): Promise<void> {
  const folder = await openFolder(input, flags)
  const now = checkedClock()
  const within = wholeDays(flags.within, '--within', RENEW_WITHIN_DAYS)
  const kept = folder.list().filter(one => one.file !== folder.caCert)
  for (const name of names) {
    if (kept.some(one => labelOf(one) === name)) continue
    throw new CommandError(`there is no certificate for ${printable(name)} in ${folder.path}`)
  }
  let renewed = 0
  for (const one of kept) {
    const isNamed = names.includes(labelOf(one))
    const isDue = names.length === 0 && leftDays(one) <= within
    if (!isNamed && !isDue) continue
    renewOne(folder, one, now, flags)
    renewed++
    say(`renewed ${labelOf(one)}, until ${folder.read(one.file).validTo}: ${one.file}`)
  }
  if (renewed === 0) say(`nothing expires within ${within} days`)
}

export async function revokeCert(input: LoadInput, name: string, flags: CertsFlags): Promise<void> {
  const folder = await openFolder(input, flags)
  folder.checkName(name)
  const file = folder.device(name, '.crt')
  if (!folder.exists(file))
    throw new CommandError(`there is no certificate for ${name} in ${folder.path}`)
  const serials = revokeAll(folder, name, checkedClock())
  say(`revoked ${name} (${serials}), in ${folder.crl}`)
  say('A running broker refuses it from its next connection on.')
}

/** Puts the device's certificate, and what was its before a renewal, on the list; answers their numbers. */
function revokeAll(folder: CertsFolder, name: string, date: Date): string {
  const serials = folder.certificatesOf(name).map(({ serialNumber }) => serialNumber)
  const entries = serials.map(serialNumber => ({ serialNumber, date }))
  folder.writeCrl([...folder.revoked(), ...entries], date)
  folder.removeDevice(name)
  return serials.join(', ')
}

/** With its key: a device that trusts the key need not be told. */
function renewOne(folder: CertsFolder, one: Kept, now: Date, flags: CertsFlags): void {
  const keyFile = one.file.replace(/\.crt$/, '.key')
  const publicKey = createPublicKey(readFileSync(keyFile))
  const isServer = one.file === folder.serverCert
  if (isServer) {
    const hosts = [...new Set([...hostsIn(one), ...hostsOfMachine(flags.host ?? [])])]
    folder.write([[one.file, certifyServer(folder, hosts, publicKey, now, flags)]])
    return
  }
  const cert = certify(folder, 'device', one.name, [], publicKey, now, daysOf(flags, DEVICE_DAYS))
  const before = folder.certificatesOf(one.name).filter(isAlive).map(String)
  folder.write([
    [folder.device(one.name, SUPERSEDED), before.join('')],
    [one.file, cert]
  ])
  const asBefore = FORMATS.filter(format => folder.exists(folder.device(one.name, ENDINGS[format])))
  writeFormats(folder, one.name, asBefore)
}

function writeFormats(folder: CertsFolder, name: string, formats: readonly Format[]): string[] {
  const text = (file: string) => readFileSync(file, 'utf8')
  const files = {
    name,
    ca: text(folder.caCert),
    cert: text(folder.device(name, '.crt')),
    key: text(folder.device(name, '.key'))
  }
  const made = formats.map(format => {
    const content = formatDevice(format, files)
    return [folder.device(name, ENDINGS[format]), content] as const
  })
  folder.write(made)
  return made.map(([file]) => file)
}

function makeAuthority(folder: CertsFolder, now: Date): void {
  if (folder.exists(folder.caKey)) {
    throw new CommandError(`there is ${folder.caKey} without ${folder.caCert}; move it away first`)
  }
  const { pem, publicKey } = newKey()
  const key = createPrivateKey(pem)
  const cert = makeCertificate(
    {
      purpose: 'authority',
      commonName: `Motemq CA ${hostname().slice(0, 40)}`,
      hosts: [],
      publicKey,
      notBefore: new Date(now.getTime() - EARLIER_MS),
      notAfter: new Date(now.getTime() + CA_DAYS * DAY_MS)
    },
    null,
    key
  )
  folder.write([
    [folder.caKey, pem],
    [folder.caCert, toPem('CERTIFICATE', cert)]
  ])
}

function certifyServer(
  folder: CertsFolder,
  hosts: readonly string[],
  publicKey: KeyObject,
  now: Date,
  flags: CertsFlags
): string {
  const days = daysOf(flags, SERVER_DAYS)
  return certify(folder, 'server', hosts[0]!, hosts, publicKey, now, days)
}

/** A certificate in PEM; none outlives its authority. */
function certify(
  folder: CertsFolder,
  purpose: Purpose,
  commonName: string,
  hosts: readonly string[],
  publicKey: KeyObject,
  now: Date,
  days: number
): string {
  const caEnd = Date.parse(folder.read(folder.caCert).validTo)
  const end = Math.min(now.getTime() + days * DAY_MS, caEnd)
  if (end <= now.getTime()) {
    throw new CommandError(`${folder.caCert} has expired: move the folder away and begin anew`)
  }
  const der = makeCertificate(
    {
      purpose,
      // A common name has 64 characters at most (RFC 5280, ub-common-name).
      commonName: commonName.slice(0, 64),
      hosts,
      publicKey,
      notBefore: new Date(now.getTime() - EARLIER_MS),
      notAfter: new Date(end)
    },
    folder.issuer()
  )
  return toPem('CERTIFICATE', der)
}

/** What this machine is called, the likeliest first, and what `--host` adds. */
function hostsOfMachine(extra: readonly string[]): string[] {
  const name = hostname().toLowerCase().replace(/\.$/, '')
  const own = isDnsName(name) ? [name, ...(name.includes('.') ? [] : [`${name}.local`])] : []
  const addresses = Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .filter(entry => !entry.internal)
    .map(entry => entry.address.split('%')[0]!)
  for (const host of extra) {
    if (isIP(host) !== 0 || isDnsName(host.replace(/^\*\./, ''))) continue
    throw new CommandError(
      `--host: ${JSON.stringify(host)} is neither a name nor an address`,
      EXIT_USAGE
    )
  }
  return [...new Set([...extra, ...own, 'localhost', '127.0.0.1', '::1', ...addresses])]
}

function isDnsName(text: string): boolean {
  return (
    text.length <= 253 &&
    /^(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(
      text
    )
  )
}

/** The names and addresses that a certificate has. */
function hostsIn(one: Kept): string[] {
  const text = one.certificate.subjectAltName ?? ''
  return text
    .split(', ')
    .map(entry => entry.replace(/^(?:DNS|IP Address):/, ''))
    .filter(host => host !== '')
    .map(host => (isIP(host) === 6 ? shortAddress(host) : host))
}

/** As the machine itself writes it: OpenSSL writes out every part of an IPv6 address. */
function shortAddress(address: string): string {
  return new URL(`http://[${address}]/`).hostname.slice(1, -1)
}

/** What `motemq start` must be told so that it finds the files. */
function whereFlags(input: LoadInput, folder: CertsFolder, flags: CertsFlags): string {
  const data = input.flags.get('data')
  if (flags.dir === undefined) return typeof data === 'string' ? ` --data ${data}` : ''
  return ` --tls-cert ${folder.serverCert} --tls-key ${folder.serverKey}`
}

async function openFolder(input: LoadInput, flags: CertsFlags): Promise<CertsFolder> {
  if (flags.dir !== undefined) return new CertsFolder(resolve(input.directory, flags.dir))
  const { options } = await loadOptions(input)
  return new CertsFolder(join(options.data, CERTS_FOLDER))
}

function checkedClock(): Date {
  const now = new Date()
  if (now.getTime() >= CLOCK_MIN_MS) return now
  throw new CommandError(
    `the clock of this machine says ${now.toUTCString()}: set it first, no client would take such a certificate`
  )
}

function daysOf(flags: CertsFlags, usual: number): number {
  return wholeDays(flags.days, '--days', usual)
}

function wholeDays(text: string | undefined, flag: string, usual: number): number {
  if (text === undefined) return usual
  const days = Number(text.replace(/d$/, ''))
  if (Number.isInteger(days) && days >= 1 && days <= 36_500) return days
  throw new CommandError(`${flag}: ${JSON.stringify(text)} is no number of days`, EXIT_USAGE)
}

function formatsOf(flags: CertsFlags): Format[] {
  const asked = flags.format ?? ['pem']
  return asked.map(name => {
    const format = FORMATS.find(known => known === name)
    if (format !== undefined) return format
    throw new CommandError(
      `--format: ${JSON.stringify(name)} is not one of ${FORMATS.join(', ')}`,
      EXIT_USAGE
    )
  })
}

function describe(folder: CertsFolder, one: Kept) {
  const { file, certificate } = one
  const kind =
    file === folder.caCert ? 'authority' : file === folder.serverCert ? 'server' : 'device'
  const expires = new Date(certificate.validTo).toISOString()
  const serialNumber = certificate.serialNumber
  return {
    name: labelOf(one),
    kind,
    expires,
    daysLeft: Math.floor(leftDays(one)),
    serialNumber,
    file
  }
}

function labelOf(one: Kept): string {
  if (one.name !== '') return one.name
  return one.file.endsWith('ca.crt') ? 'ca' : 'server'
}

function isAlive(certificate: X509Certificate): boolean {
  return Date.parse(certificate.validTo) > Date.now()
}

function leftDays(one: Kept): number {
  return (Date.parse(one.certificate.validTo) - Date.now()) / DAY_MS
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
