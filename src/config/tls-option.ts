/** The shape of TLS in the configuration. */

/** Where a client's name is in its certificate. */
export const IDENTITIES = ['none', 'cn', 'dns', 'uri'] as const
export const TLS_VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const

/** The block `tls:`; '' is what is not given. */
export interface TlsOption {
  cert: string
  key: string
  ca: string
  crl: string
  requireCert: boolean
  useIdentity: (typeof IDENTITIES)[number]
  psk: string
  usePskIdentity: boolean
  minVersion: (typeof TLS_VERSIONS)[number]
  ciphers: string
}

/** What a listener says in a `tls:` of its own. */
export type ListenerTls = Partial<Readonly<TlsOption>>
