/**
 * Listening on a Unix socket: a file that outlives its process. What a crash left behind is removed, but never a file
 * that somebody listens on, nor one that is no socket.
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import { dirname } from 'node:path'

/** `sun_path` has 108 bytes, the last of them 0; what is longer would be cut without a word. */
const PATH_BYTES_MAX = 107

class UnixSocketError extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.name = 'UnixSocketError'
    this.code = code
  }
}

/** @throws an error with `code` and a sentence for the operator */
export async function bindUnix(
  server: Server,
  path: string,
  mode: number,
  backlog: number
): Promise<void> {
  const bytes = Buffer.byteLength(path)
  if (bytes > PATH_BYTES_MAX) {
    const most = `a Unix socket's path has at most ${PATH_BYTES_MAX} bytes`
    throw new UnixSocketError('ENAMETOOLONG', `${most}, this one has ${bytes}`)
  }
  await removeStale(path)
  await new Promise<void>((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => reject(explained(error, path))
    server.once('error', failed)
    // The file is made before `listen` returns: it never has wider rights than asked for.
    const mask = process.umask(0o777 & ~mode)
    try {
      server.listen({ path, backlog }, () => {
        server.off('error', failed)
        resolve()
      })
    } finally {
      process.umask(mask)
    }
  })
  // A folder's default rights (ACLs) go before the mask.
  chmodSync(path, mode)
}

async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new UnixSocketError('EEXIST', 'there is such a file, and it is no socket')
  }
  const answer = await knock(path)
  if (answer === 'ECONNREFUSED') {
    unlinkSync(path)
    return
  }
  const why = answer === '' ? 'another program listens on it' : `it cannot be tried (${answer})`
  throw new UnixSocketError('EADDRINUSE', why)
}

/** '' when somebody answers, else the error's code. */
function knock(path: string): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve('')
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'UNKNOWN'))
  })
}

function explained(error: NodeJS.ErrnoException, path: string): Error {
  const { code = 'UNKNOWN' } = error
  const folder = dirname(path)
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new UnixSocketError(code, `there is no folder ${folder}`)
  }
  // libuv says EACCES for a folder that is not there, too.
  if (code === 'EACCES' || code === 'EPERM') {
    const isThere = lstatSync(folder, { throwIfNoEntry: false }) !== undefined
    const why = isThere ? `this user may not write into ${folder}` : `there is no folder ${folder}`
    return new UnixSocketError(code, why)
  }
  return error
}
