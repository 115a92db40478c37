/**
 * TLS in the configuration: one block for all listeners, and what a listener says otherwise. Which files a listener
 * then uses is decided here; what is in them is read at the start.
 */
import { join, resolve } from 'node:path'
import type { ListenerOption } from './listener-url.ts'
import { shown } from './mistake.ts'
import { IDENTITIES, type ListenerTls, TLS_VERSIONS, type TlsOption } from './tls-option.ts'
import type { YamlFile } from './yaml-node.ts'

/** What holds for a listener: paths are absolute, '' is none. */
export interface TlsSettings extends Readonly<TlsOption> {
  /** The certificate was not named: it is the one that `motemq certs init` makes. */
  readonly isDefaultCert: boolean
  /** There may be a list of revoked certificates beside the authority that `motemq certs init` makes. */
  readonly isCrlOptional: boolean
}

type Key = keyof TlsOption

const TEXTS: readonly Key[] = ['cert', 'key', 'ca', 'crl', 'psk', 'ciphers']
const BOOLEANS: readonly Key[] = ['requireCert', 'usePskIdentity']
const FILES: readonly Key[] = ['cert', 'key', 'ca', 'crl', 'psk']

/** Names below `<data>/certs`, as `motemq certs` writes them. */
export const CERTS_FOLDER = 'certs'
export const SERVER_CERT = 'server.crt'
export const SERVER_KEY = 'server.key'
export const CA_CERT = 'ca.crt'
export const CRL_FILE = 'crl.pem'

/** The `tls:` of a listener in a file. */
export function readListenerTls(yaml: YamlFile, node: unknown): ListenerTls {
  const found: Record<string, unknown> = {}
  const known = [...TEXTS, ...BOOLEANS, 'useIdentity', 'minVersion']
  for (const { key, value } of yaml.entries(node, 'tls', known) ?? []) {
    if (BOOLEANS.includes(key as Key)) found[key] = yaml.boolean(value, key) ?? false
    else {
      const text = yaml.text(value, key)
      if (text === null) continue
      const choices: readonly string[] | null =
        key === 'useIdentity' ? IDENTITIES : key === 'minVersion' ? TLS_VERSIONS : null
      if (choices !== null && !choices.includes(text)) {
        yaml.mistake(value, `${key}: ${shown(text)} is not one of ${choices.join(', ')}`)
      } else if (text === '') yaml.mistake(value, `${key} is empty`)
      else found[key] = text
    }
  }
  return found as ListenerTls
}

/** The same with absolute paths. */
export function withPaths<T extends ListenerTls>(tls: T, directory: string): T {
  const found = { ...tls }
  for (const key of FILES) {
    const file = tls[key] as string | undefined
    if (file !== undefined && file !== '') Object.assign(found, { [key]: resolve(directory, file) })
  }
  return found
}

/** What holds for one listener, or a sentence that says what is wrong. */
function tlsSettings(
  listener: Pick<ListenerOption, 'url' | 'tls'>,
  all: Readonly<TlsOption>,
  data: string
): TlsSettings | string {
  const own: ListenerTls = listener.tls ?? {}
  const merged: TlsOption = { ...all, ...own }
  const ownCert = own.cert !== undefined || own.key !== undefined
  if (own.psk !== undefined && ownCert) return pskBesideCert(listener.url)
  if (own.psk !== undefined || (merged.psk !== '' && !ownCert)) {
    if (own.psk === undefined && all.cert !== '') return pskBesideCert(listener.url)
    return {
      ...merged,
      ...{ cert: '', key: '', ca: '', crl: '', requireCert: false, useIdentity: 'none' },
      isDefaultCert: false,
      isCrlOptional: false
    }
  }
  return withCertificate(listener.url, { ...merged, psk: '' }, join(data, CERTS_FOLDER))
}

/** What holds for each listener with TLS, and a sentence for each that cannot be opened. */
export function tlsOfListeners<L extends Pick<ListenerOption, 'url' | 'tls' | 'isTls'>>(
  listeners: readonly L[],
  all: Readonly<TlsOption>,
  data: string
): { settings: ReadonlyMap<L, TlsSettings>; mistakes: readonly string[] } {
  const found = new Map<L, TlsSettings>()
  const mistakes: string[] = []
  for (const listener of listeners) {
    if (!listener.isTls) continue
    const settings = tlsSettings(listener, all, data)
    if (typeof settings === 'string') mistakes.push(settings)
    else found.set(listener, settings)
  }
  return { settings: found, mistakes }
}

function pskBesideCert(url: string): string {
  return `${url}: a listener takes either a certificate or pre-shared keys; write psk into the tls of a listener of its own`
}

function withCertificate(url: string, tls: TlsOption, folder: string): TlsSettings | string {
  if (tls.cert === '' && tls.key !== '') return `${url}: tls.key is given without tls.cert`
  if (tls.cert !== '' && tls.key === '') return `${url}: tls.cert is given without tls.key`
  const isDefaultCert = tls.cert === ''
  if (isDefaultCert) {
    tls.cert = join(folder, SERVER_CERT)
    tls.key = join(folder, SERVER_KEY)
  }
  const asksForOne = tls.requireCert || tls.useIdentity !== 'none'
  let isCrlOptional = false
  if (asksForOne && tls.ca === '') {
    tls.ca = join(folder, CA_CERT)
    if (tls.crl === '') {
      tls.crl = join(folder, CRL_FILE)
      isCrlOptional = true
    }
  }
  if (tls.crl !== '' && tls.ca === '') return `${url}: tls.crl is given without tls.ca`
  return { ...tls, isDefaultCert, isCrlOptional }
}

/** Whether nobody gets in through this listener without a secret, users or not. */
export function isClosedByTls(
  listener: Partial<Pick<ListenerOption, 'isTls' | 'tls'>>,
  all: Readonly<TlsOption>
): boolean {
  if (listener.isTls !== true) return false
  const tls: TlsOption = { ...all, ...listener.tls }
  const isPsk = tls.psk !== '' && listener.tls?.cert === undefined
  return isPsk ? tls.usePskIdentity : tls.requireCert && tls.useIdentity !== 'none'
}

/** Whether users may come whom only TLS knows. */
export function takesIdentities(tls: Readonly<TlsOption>): boolean {
  return tls.useIdentity !== 'none' || (tls.psk !== '' && tls.usePskIdentity)
}

/** Nothing is said of TLS. */
export const NO_TLS: Readonly<TlsOption> = {
  cert: '',
  key: '',
  ca: '',
  crl: '',
  requireCert: false,
  useIdentity: 'none',
  psk: '',
  usePskIdentity: false,
  minVersion: 'TLSv1.2',
  ciphers: ''
}
