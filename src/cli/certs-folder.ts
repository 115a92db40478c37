/** The folder of `motemq certs`: what is in it, and how files get there whole, private and owned by who runs the broker. */
import {
  createPrivateKey,
  type createPublicKey,
  generateKeyPairSync,
  X509Certificate
} from 'node:crypto'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { dirname, join } from 'node:path'
import { CA_CERT, CRL_FILE, SERVER_CERT, SERVER_KEY } from '../config/tls.ts'
import { CommandError } from './exit.ts'
import { type Issuer, makeCrl, readCrl, readIssuer, type RevokedEntry } from './x509.ts'

const CA_KEY = 'ca.key'
const DEVICES = 'devices'
/** What was a device's before a renewal, with the same key: revoked together with the last one. */
export const SUPERSEDED = '.superseded'
const NAME_CHARS = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/
const RESERVED: readonly string[] = ['ca', 'server']
const DAY_MS = 86_400_000
/** Who holds none newer refuses everybody: it must not run out while nobody looks. */
const CRL_DAYS = 3_650

export interface Kept {
  /** '' for the server and the authority. */
  readonly name: string
  readonly file: string
  readonly certificate: X509Certificate
}

export class CertsFolder {
  readonly path: string
  readonly #owner: { uid: number; gid: number } | null

  constructor(path: string) {
    this.path = path
    this.#owner = ownerAbove(path)
  }

  get caCert(): string {
    return join(this.path, CA_CERT)
  }

  get caKey(): string {
    return join(this.path, CA_KEY)
  }

  get serverCert(): string {
    return join(this.path, SERVER_CERT)
  }

  get serverKey(): string {
    return join(this.path, SERVER_KEY)
  }

  get crl(): string {
    return join(this.path, CRL_FILE)
  }

  /** A device's file; `ending` with its dot. */
  device(name: string, ending: string): string {
    return join(this.path, DEVICES, `${name}${ending}`)
  }

  /** @throws CommandError for what is no name of a file and of a user */
  checkName(name: string): void {
    if (NAME_CHARS.test(name) && !RESERVED.includes(name)) return
    throw new CommandError(
      `${JSON.stringify(name)} is no name for a device: 1 to 64 letters, digits, ".", "_", "@" and "-", and neither ca nor server`
    )
  }

  exists(file: string): boolean {
    return existsSync(file)
  }

  /** Writes files so that nobody sees a half of one, or of a pair for long. All are for their owner only. */
  write(files: readonly (readonly [string, string])[]): void {
    for (const [file] of files) this.#makeFolder(dirname(file))
    for (const [file, text] of files) {
      rmSync(`${file}.new`, { force: true })
      writeFileSync(`${file}.new`, text, { mode: 0o600, flag: 'wx', flush: true })
      if (this.#owner !== null) chownSync(`${file}.new`, this.#owner.uid, this.#owner.gid)
    }
    for (const [file] of files) renameSync(`${file}.new`, file)
  }

  /** The authority that signs. @throws CommandError when it is not there */
  issuer(): Issuer {
    if (!existsSync(this.caCert)) {
      throw new CommandError(`there is no ${this.caCert}; make it with: motemq certs init`)
    }
    if (!existsSync(this.caKey)) {
      throw new CommandError(
        `there is no ${this.caKey}: without the authority's key nothing is signed`
      )
    }
    const certificate = this.read(this.caCert)
    const key = createPrivateKey(readFileSync(this.caKey))
    if (!certificate.checkPrivateKey(key)) {
      throw new CommandError(`${this.caKey} is not the key of ${this.caCert}`)
    }
    return readIssuer(certificate.raw, key, certificate.publicKey)
  }

  read(file: string): X509Certificate {
    try {
      return new X509Certificate(readFileSync(file))
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EACCES') throw error
      throw new CommandError(`${file} cannot be read as a certificate`)
    }
  }

  /** The authority's, the server's, then the devices', by name. */
  list(): Kept[] {
    const found: Kept[] = []
    for (const file of [this.caCert, this.serverCert]) {
      if (existsSync(file)) found.push({ name: '', file, certificate: this.read(file) })
    }
    const folder = join(this.path, DEVICES)
    const names = existsSync(folder) ? readdirSync(folder).sort() : []
    for (const name of names) {
      if (!name.endsWith('.crt')) continue
      const file = join(folder, name)
      found.push({ name: name.slice(0, -4), file, certificate: this.read(file) })
    }
    return found
  }

  revoked(): RevokedEntry[] {
    if (!existsSync(this.crl)) return []
    return readCrl(fromPem(readFileSync(this.crl, 'utf8')))
  }

  /** Writes the list of revoked certificates anew. */
  writeCrl(entries: readonly RevokedEntry[], now: Date): void {
    const until = new Date(now.getTime() + CRL_DAYS * DAY_MS)
    // Good from a day ago: the broker's clock may be a little behind.
    const crl = makeCrl(this.issuer(), entries, new Date(now.getTime() - DAY_MS), until)
    this.write([[this.crl, toPem('X509 CRL', crl)]])
  }

  /** The device's certificate, and those that it replaced. */
  certificatesOf(name: string): X509Certificate[] {
    const files = ['.crt', SUPERSEDED].map(ending => this.device(name, ending))
    const texts = files.filter(file => existsSync(file)).map(file => readFileSync(file, 'utf8'))
    const blocks = texts
      .join('')
      .match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g)
    return (blocks ?? []).map(block => new X509Certificate(block))
  }

  removeDevice(name: string): void {
    for (const ending of ['.crt', '.key', '.pem', '.h', '.py', SUPERSEDED]) {
      rmSync(this.device(name, ending), { force: true })
    }
  }

  #makeFolder(folder: string): void {
    const first = mkdirSync(folder, { recursive: true, mode: 0o700 })
    if (first === undefined || this.#owner === null) return
    for (let made = folder; made.length >= first.length; made = dirname(made)) {
      chownSync(made, this.#owner.uid, this.#owner.gid)
    }
  }
}

/** A new key on the curve that every small device knows. */
export function newKey(): { pem: string; publicKey: ReturnType<typeof createPublicKey> } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  // The older form: libraries of small devices know it longer than PKCS #8.
  return { pem: privateKey.export({ type: 'sec1', format: 'pem' }) as string, publicKey }
}

export function toPem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function fromPem(text: string): Buffer {
  return Buffer.from(text.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')
}

/** Root makes files for the user whose data folder it is: the broker runs as that one. */
function ownerAbove(path: string): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null
  let folder = path
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder)
  const { uid, gid } = statSync(folder)
  return uid === 0 ? null : { uid, gid }
}
