/**
 * From files to what TLS needs of them. Everything that can be wrong with them is found here, in sentences that name
 * the file; what is only odd becomes a warning.
 */
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { constants } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import { readPskFile } from './psk-file.ts'
import type { IdentitySource } from './tls-identity.ts'

/** What a listener was told; '' is no file. */
export interface TlsSettings {
  readonly cert: string
  readonly key: string
  readonly ca: string
  readonly crl: string
  readonly requireCert: boolean
  readonly useIdentity: IdentitySource
  readonly psk: string
  readonly usePskIdentity: boolean
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
  readonly ciphers: string
  readonly isDefaultCert: boolean
  readonly isCrlOptional: boolean
}

/** What handshakes are made with. */
export interface TlsMaterial {
  readonly context: SecureContext
  /** By identity; null where certificates are used. */
  readonly psk: ReadonlyMap<string, Buffer> | null
  /** Our certificate's last moment, milliseconds of the epoch; Infinity without one. */
  readonly expiresMs: number
  /** Of everything that was read: the same means nothing has changed. */
  readonly digest: string
  readonly warnings: readonly string[]
}

/** Files that cannot be used; `mistakes` has a sentence each. */
export class TlsFilesError extends Error {
  readonly mistakes: readonly string[]

  constructor(mistakes: readonly string[]) {
    super(mistakes.join('\n'))
    this.name = 'TlsFilesError'
    this.mistakes = mistakes
  }
}

const FILE_BYTES_MAX = 1024 * 1024
const EXPIRY_NOTICE_MS = 30 * 86_400_000
/** Tickets let a device that wakes now and then come back without the costly part of the handshake. */
const TICKET_SECONDS = 86_400

/** TLS 1.3's own; the last one is that of constrained devices. */
const CIPHERS_13 =
  'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256'
/** Forward secrecy and authenticated encryption only; CCM is what RFC 7925 asks small devices to have. */
const CIPHERS_12 = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES128-CCM',
  'ECDHE-ECDSA-AES128-CCM8'
].join(':')
/** What mbedTLS, wolfSSL and OpenSSL have in common, with AES-CBC for those without GCM. */
const CIPHERS_PSK = [
  'ECDHE-PSK-CHACHA20-POLY1305',
  'ECDHE-PSK-AES128-CBC-SHA256',
  'PSK-AES128-GCM-SHA256',
  'PSK-AES256-GCM-SHA384',
  'PSK-CHACHA20-POLY1305',
  'PSK-AES128-CCM',
  'PSK-AES128-CCM8',
  'PSK-AES128-CBC-SHA256',
  'PSK-AES256-CBC-SHA384'
].join(':')

/** The files that are looked at again while the broker runs. */
export function filesOf(settings: TlsSettings): string[] {
  const { cert, key, ca, crl, psk } = settings
  return [cert, key, ca, crl, psk].filter(file => file !== '')
}

/** Reads everything. @throws TlsFilesError */
export function loadTls(settings: TlsSettings, nowMs: number): TlsMaterial {
  return new Loader(settings, nowMs).load()
}

class Loader {
  readonly #settings: TlsSettings
  readonly #nowMs: number
  readonly #mistakes: string[] = []
  readonly #warnings: string[] = []
  readonly #digest = createHash('sha256')
  #expiresMs = Number.POSITIVE_INFINITY

  constructor(settings: TlsSettings, nowMs: number) {
    this.#settings = settings
    this.#nowMs = nowMs
  }

  load(): TlsMaterial {
    const { psk } = this.#settings
    const keys = psk === '' ? null : this.#readPsk(psk)
    const options = psk === '' ? this.#withCertificate() : this.#withPsk()
    if (this.#mistakes.length > 0) throw new TlsFilesError(this.#mistakes)
    return {
      context: this.#makeContext(options),
      psk: keys,
      expiresMs: this.#expiresMs,
      digest: this.#digest.digest('hex'),
      warnings: this.#warnings
    }
  }

  #makeContext(options: SecureContextOptions): SecureContext {
    const { useIdentity, requireCert, ciphers, cert, psk } = this.#settings
    try {
      return createSecureContext({
        ...options,
        honorCipherOrder: true,
        secureOptions: secureOptions(psk !== ''),
        // A session may be resumed only where it would have been made.
        sessionIdContext: createHash('sha256')
          .update(`${requireCert} ${useIdentity}`)
          .digest('hex')
          .slice(0, 32),
        sessionTimeout: TICKET_SECONDS
      })
    } catch (error) {
      const what = ciphers === '' ? cert || psk : `tls.ciphers or ${cert || psk}`
      throw new TlsFilesError([`${what} cannot be used: ${(error as Error).message}`])
    }
  }

  #withPsk(): SecureContextOptions {
    const { ciphers } = this.#settings
    // Node takes external keys in TLS 1.2 only.
    return {
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
      ciphers: ciphers === '' ? CIPHERS_PSK : ciphers
    }
  }

  #withCertificate(): SecureContextOptions {
    const { cert, key, ca, crl, minVersion, ciphers } = this.#settings
    const certText = this.#read(cert, 'the certificate')
    const keyText = this.#read(key, 'the key')
    const caText = ca === '' ? null : this.#read(ca, 'the certificate authority')
    const crlText = crl === '' ? null : this.#readCrl(crl)
    const leaf = certText === null ? null : this.#checkChain(cert, certText)
    const privateKey = keyText === null ? null : this.#checkKey(key, keyText)
    if (leaf !== null && privateKey !== null && !leaf.checkPrivateKey(privateKey)) {
      this.#mistakes.push(`${key} is not the key of ${cert}`)
    }
    if (caText !== null) this.#checkAuthorities(ca, caText)
    return {
      minVersion,
      maxVersion: 'TLSv1.3',
      ciphers: ciphers === '' ? `${CIPHERS_13}:${CIPHERS_12}` : ciphers,
      ...(certText === null ? {} : { cert: certText }),
      ...(keyText === null ? {} : { key: keyText }),
      ...(caText === null ? {} : { ca: caText }),
      ...(crlText === null ? {} : { crl: crlText })
    }
  }

  #checkChain(file: string, text: string): X509Certificate | null {
    const chain = this.#certificates(file, text)
    const [leaf] = chain
    if (leaf === undefined) return null
    const from = Date.parse(leaf.validFrom)
    this.#expiresMs = Date.parse(leaf.validTo)
    const left = this.#expiresMs - this.#nowMs
    if (left <= 0) {
      this.#warnings.push(`${file} has expired, on ${leaf.validTo}: clients will refuse it`)
    } else if (from > this.#nowMs) {
      const now = new Date(this.#nowMs).toUTCString()
      this.#warnings.push(
        `${file} is not valid before ${leaf.validFrom}, and the clock says ${now}: is the clock right?`
      )
    } else if (left <= EXPIRY_NOTICE_MS) {
      this.#warnings.push(`${file} expires on ${leaf.validTo}`)
    }
    return leaf
  }

  #checkAuthorities(file: string, text: string): void {
    for (const one of this.#certificates(file, text)) {
      const subject = one.subject.replaceAll('\n', ', ')
      if (!one.ca) this.#warnings.push(`${file}: ${subject} is no certificate authority`)
      if (Date.parse(one.validTo) <= this.#nowMs) {
        this.#warnings.push(`${file}: ${subject} has expired, on ${one.validTo}`)
      }
    }
  }

  #certificates(file: string, text: string): X509Certificate[] {
    const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
    if (blocks.length === 0) this.#mistakes.push(`${file} holds no certificate in PEM`)
    const found: X509Certificate[] = []
    for (const [i, block] of blocks.entries()) {
      try {
        found.push(new X509Certificate(block))
      } catch (error) {
        if (!(error instanceof Error)) throw error
        this.#mistakes.push(`${file}: certificate ${i + 1} cannot be read`)
      }
    }
    return found
  }

  #checkKey(file: string, text: string): KeyObject | null {
    if (/ENCRYPTED/.test(text)) {
      this.#mistakes.push(
        `${file} is protected by a pass phrase; take it off with: openssl pkey -in ${file} -out FILE`
      )
      return null
    }
    try {
      return createPrivateKey(text)
    } catch (error) {
      if (!(error instanceof Error)) throw error
      this.#mistakes.push(`${file} holds no private key in PEM`)
      return null
    }
  }

  #readCrl(file: string): string | null {
    const text = this.#read(file, 'the list of revoked certificates', this.#settings.isCrlOptional)
    if (text !== null && !text.includes('-----BEGIN X509 CRL-----')) {
      this.#mistakes.push(`${file} holds no list of revoked certificates in PEM`)
      return null
    }
    return text
  }

  #readPsk(file: string): ReadonlyMap<string, Buffer> {
    const text = this.#read(file, 'the pre-shared keys')
    if (text === null) return new Map()
    const { keys, mistakes, warnings } = readPskFile(file, text)
    this.#mistakes.push(...mistakes)
    this.#warnings.push(...warnings)
    return keys
  }

  #read(file: string, what: string, mayBeMissing = false): string | null {
    try {
      const { size, mode } = statSync(file)
      if (size > FILE_BYTES_MAX) {
        this.#mistakes.push(`${file} (${what}) has ${size} bytes; that is no such file`)
        return null
      }
      const isSecret = file === this.#settings.key || file === this.#settings.psk
      if (isSecret && (mode & 0o007) !== 0) {
        this.#warnings.push(`${file} can be read by everybody on this machine: chmod 600 ${file}`)
      }
      const text = readFileSync(file, 'utf8')
      this.#digest.update(`${file}\0${text}\0`)
      return text
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === undefined) throw error
      if (code === 'ENOENT' && mayBeMissing) return null
      this.#mistakes.push(this.#whyUnreadable(file, what, code))
      return null
    }
  }

  #whyUnreadable(file: string, what: string, code: string): string {
    if (code !== 'ENOENT') return `${file} (${what}) cannot be read (${code})`
    const { isDefaultCert } = this.#settings
    const hint = isDefaultCert
      ? '; make one with `motemq certs init`, or name yours with --tls-cert and --tls-key'
      : ''
    return `${file} (${what}) does not exist${hint}`
  }
}

function secureOptions(isPsk: boolean): number {
  // A resumed session does not ask for the key again, and would have no identity.
  return constants.SSL_OP_NO_RENEGOTIATION | (isPsk ? constants.SSL_OP_NO_TICKET : 0)
}
