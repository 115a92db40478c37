/**
 * Who a verified certificate says the client is. The name is taken literally, and only when it is one: a name that a
 * topic filter would read as a wildcard, or that is cut or shown in two ways, is none.
 */
import type { PeerCertificate } from 'node:tls'

export type IdentitySource = 'none' | 'cn' | 'dns' | 'uri'

const NAME_BYTES_MAX = 256

/** The name, or null when there is not exactly one that may be a user's. */
export function identityOf(certificate: PeerCertificate, source: IdentitySource): string | null {
  const names = source === 'cn' ? commonNames(certificate) : alternativeNames(certificate, source)
  return names.length === 1 && isName(names[0]!) ? names[0]! : null
}

/** What may stand for a user's name when it was not chosen here. */
export function isName(name: string): boolean {
  if (name === '' || Buffer.byteLength(name) > NAME_BYTES_MAX) return false
  // U+FFFD stands for bytes that were no UTF-8; + and # are wildcards of filters.
  return !/[\u0000-\u001f\u007f-\u009f\ufffd+#]/.test(name)
}

function commonNames(certificate: PeerCertificate): string[] {
  // Of several Node makes a list.
  const found: unknown = (certificate.subject as { CN?: unknown } | undefined)?.CN
  if (typeof found === 'string') return [found]
  return Array.isArray(found) ? found.map(String) : []
}

/**
 * Of `DNS:a, URI:b, DNS:"with, comma"`: Node writes a name that holds anything unusual as a JSON text, so that a comma
 * in a name adds no other.
 */
function alternativeNames(certificate: PeerCertificate, source: IdentitySource): string[] {
  const text = certificate.subjectaltname ?? ''
  const kind = source === 'dns' ? 'DNS:' : 'URI:'
  const names: string[] = []
  for (const [part] of text.matchAll(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g)) {
    const entry = part.trim()
    if (!entry.startsWith(kind)) continue
    const value = entry.slice(kind.length)
    names.push(value.startsWith('"') ? (JSON.parse(value) as string) : value)
  }
  return names
}
