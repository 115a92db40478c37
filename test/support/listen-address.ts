/** Where a listener of a test listens: any free port of 127.0.0.1, unless it says more. */
import type { ListenAddress } from '../../src/net/arrival.ts'

export function listenAddress(part: Partial<ListenAddress> = {}): ListenAddress {
  const { host = '127.0.0.1', port = 0, scheme = 'mqtt' } = part
  return {
    url: `${scheme}://${host}:${port}`,
    scheme,
    protocol: 'mqtt',
    isTls: false,
    isWebSocket: false,
    host,
    port,
    unixPath: '',
    mode: 0o660,
    vhost: '',
    path: '',
    origins: null,
    proxyFrom: [],
    insecure: false,
    ...part
  }
}
