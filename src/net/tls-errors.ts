/** What OpenSSL says, in words an operator can act on. */
import type { PeerCertificate } from 'node:tls'
import { printable } from '../lib/printable.ts'

const ALERTS: Readonly<Record<string, string>> = {
  UNSUPPORTED_PROTOCOL: 'it speaks only older versions of TLS',
  VERSION_TOO_LOW: 'it speaks only older versions of TLS',
  UNKNOWN_PROTOCOL: 'it speaks no version of TLS',
  WRONG_VERSION_NUMBER: 'it does not speak TLS',
  HTTP_REQUEST: 'it does not speak TLS',
  NO_SHARED_CIPHER: 'it knows none of our ciphers',
  NO_SUITABLE_SIGNATURE_ALGORITHM: 'it cannot verify the kind of our certificate',
  NO_SHARED_SIGNATURE_ALGORITHMS: 'it cannot verify the kind of our certificate',
  NO_APPLICATION_PROTOCOL: 'it asks for another protocol (ALPN)',
  SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'it does not accept our certificate',
  TLSV1_ALERT_UNKNOWN_CA: 'it does not know who issued our certificate (unknown CA)',
  SSLV3_ALERT_BAD_CERTIFICATE:
    'it does not accept our certificate, or the name it called us by is not in it',
  SSLV3_ALERT_CERTIFICATE_EXPIRED: 'for its clock our certificate is not valid now',
  TLSV1_ALERT_PROTOCOL_VERSION: 'it does not accept our version of TLS',
  TLSV1_ALERT_DECRYPT_ERROR: 'its key is not ours',
  DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    'its pre-shared key is not ours, or a record was changed on the way',
  BINDER_DOES_NOT_VERIFY: 'its pre-shared key is not ours'
}

const VERIFY: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'has expired',
  CERT_NOT_YET_VALID: 'is not valid yet: is the clock right?',
  CERT_REVOKED: 'is revoked',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'is signed by itself',
  SELF_SIGNED_CERT_IN_CHAIN: 'was issued by nobody we know',
  UNABLE_TO_GET_ISSUER_CERT: 'was issued by nobody we know',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'was issued by nobody we know',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'was issued by nobody we know',
  CERT_SIGNATURE_FAILURE: 'was not issued by whom it says',
  INVALID_PURPOSE: 'is not one for clients',
  UNABLE_TO_GET_CRL: 'cannot be checked: its issuer has no list of revoked certificates here',
  CRL_HAS_EXPIRED: 'cannot be checked: the list of revoked certificates has expired',
  CRL_NOT_YET_VALID:
    'cannot be checked: the list of revoked certificates is not valid yet: is the clock right?'
}

/** Why a handshake failed. */
export function explainTlsError(error: Error): string {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  if (code === 'ECONNRESET' || code === 'EPIPE')
    return 'it closed the connection during the handshake'
  const name = code.replace(/^ERR_SSL_/, '')
  return ALERTS[name] ?? `the handshake failed: ${name === '' ? printable(error.message) : name}`
}

/** Why a client's certificate is not accepted. */
export function explainVerifyError(error: Error, certificate: PeerCertificate): string {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  const name: unknown = (certificate.subject as { CN?: unknown } | undefined)?.CN
  const who = typeof name === 'string' ? ` (${printable(name).slice(0, 64)})` : ''
  return `its certificate${who} ${VERIFY[code] ?? `is not accepted: ${printable(code || error.message)}`}`
}
