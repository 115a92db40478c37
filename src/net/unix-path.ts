/** Unix sockets, whose paths may have 107 bytes and no more. */
import { closeSync, openSync } from 'node:fs'
import { basename, dirname, relative } from 'node:path'

const PATH_BYTES_MAX = 103

export interface UnixPath {
  /** What to listen on or connect to. */
  readonly path: string
  /** To be called when the socket listens or is connected. */
  release(): void
}

/**
 * A path short enough for the kernel that leads to the same socket: as it is, from the working
 * directory, or (Linux) through the folder's open descriptor.
 */
export function shortenUnixPath(path: string): UnixPath {
  const fits = (text: string) => Buffer.byteLength(text) <= PATH_BYTES_MAX
  const near = relative(process.cwd(), path)
  if (fits(path)) return { path, release: nothing }
  if (fits(near)) return { path: near, release: nothing }
  const folder = openSync(dirname(path), 'r')
  return {
    path: `/proc/self/fd/${folder}/${basename(path)}`,
    release: () => closeSync(folder)
  }
}

function nothing(): void {
  // There is nothing to give back.
}
