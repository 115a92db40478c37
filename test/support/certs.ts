/** Certificates for tests, good ones and bad ones. */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  X509Certificate
} from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type Issuer,
  makeCertificate,
  makeCrl,
  type Purpose,
  readIssuer
} from '../../src/cli/x509.ts'

const DAY_MS = 86_400_000

export interface Made {
  readonly cert: string
  readonly key: string
}

export interface CertOptions {
  readonly purpose?: Purpose
  readonly hosts?: readonly string[]
  /** From and until so many days from now. */
  readonly fromDays?: number
  readonly untilDays?: number
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function make(name: string, options: CertOptions, issuer: Issuer | null): Made {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { purpose = 'device', hosts = [], fromDays = -1, untilDays = 90 } = options
  const parts = {
    purpose,
    commonName: name,
    hosts,
    publicKey: createPublicKey(privateKey),
    notBefore: new Date(Date.now() + fromDays * DAY_MS),
    notAfter: new Date(Date.now() + untilDays * DAY_MS)
  }
  const cert = pem('CERTIFICATE', makeCertificate(parts, issuer, privateKey))
  return { cert, key: privateKey.export({ type: 'sec1', format: 'pem' }) as string }
}

/** An authority of its own. */
export class Authority {
  readonly own: Made
  readonly #issuer: Issuer

  constructor(name = 'test authority', options: CertOptions = {}) {
    this.own = make(name, { ...options, purpose: 'authority' }, null)
    const certificate = new X509Certificate(this.own.cert)
    const key = createPrivateKey(this.own.key)
    this.#issuer = readIssuer(certificate.raw, key, certificate.publicKey)
  }

  issue(name: string, options: CertOptions = {}): Made {
    return make(name, options, this.#issuer)
  }

  server(options: CertOptions = {}): Made {
    const hosts = ['localhost', '127.0.0.1', '198.18.77.1']
    return this.issue('localhost', { purpose: 'server', hosts, ...options })
  }

  crl(revoked: readonly Made[], untilDays = 10): string {
    const entries = revoked.map(({ cert }) => ({
      serialNumber: new X509Certificate(cert).serialNumber,
      date: new Date()
    }))
    const from = new Date(Date.now() - 2 * DAY_MS)
    const until = new Date(Date.now() + untilDays * DAY_MS)
    return pem('X509 CRL', makeCrl(this.#issuer, entries, from, until))
  }
}

export function selfSigned(name: string): Made {
  return make(name, { purpose: 'device' }, null)
}

/** Writes `NAME.crt` and `NAME.key` and answers their paths. */
export function writePair(folder: string, name: string, { cert, key }: Made): Made {
  mkdirSync(folder, { recursive: true })
  const files = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) }
  writeFileSync(files.cert, cert)
  writeFileSync(files.key, key, { mode: 0o600 })
  return files
}
