/**
 * Whether an error came from a front-end's own code: then it costs one connection. From the core, the
 * broker or the journal it costs the process.
 */
export function isFrontEndBug(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const frames = error.stack?.split('\n').filter(line => line.startsWith('    at ')) ?? []
  const origin = frames.find(line => !/[\\/](src|dist)[\\/]lib[\\/]|node:/.test(line)) ?? ''
  return /[\\/](src|dist)[\\/](mqtt|amqp|net|admin)[\\/]|[\\/]mqtt-packet[\\/]/.test(origin)
}
