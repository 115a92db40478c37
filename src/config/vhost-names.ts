/** Virtual hosts as the configuration names them. */
import type { Options } from './options.ts'

/** In one way or another. */
export function configuredVhosts(options: Options): Set<string> {
  const names = new Set([options.vhost, ...options.vhosts])
  for (const { vhost } of options.listeners) if (vhost !== '') names.add(vhost)
  return names
}

/** Where listeners bring their clients. */
export function entryVhosts(options: Options): string[] {
  return options.listeners.map(({ vhost }) => (vhost === '' ? options.vhost : vhost))
}
