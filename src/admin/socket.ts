/**
 * The admin socket, `<data>/admin.sock`: how `motemq` commands reach a running broker. Whoever may open
 * it (0600, in a folder of 0700) may do everything, without a password.
 */
import { rm } from 'node:fs/promises'
import type { Server } from 'node:http'
import { join } from 'node:path'
import { shortenUnixPath } from '../net/unix-path.ts'
import { AdminServer, type AdminServerOptions } from './http.ts'

export const ADMIN_SOCKET = 'admin.sock'

export interface AdminSocket {
  close(): Promise<void>
}

/** Opens it. Call it with the folder's lock held: what a crash left behind is removed. */
export async function openAdminSocket(
  folder: string,
  options: Omit<AdminServerOptions, 'hosts'>
): Promise<AdminSocket> {
  const path = join(folder, ADMIN_SOCKET)
  await rm(path, { force: true })
  const admin = new AdminServer({ ...options, hosts: null })
  await listen(admin.server, path)
  let isClosed = false
  return {
    async close() {
      if (isClosed) return
      isClosed = true
      admin.close()
      await rm(path, { force: true })
    }
  }
}

async function listen(server: Server, path: string): Promise<void> {
  const short = shortenUnixPath(path)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      // The socket is bound before `listen` returns: it never exists with wider rights.
      const mask = process.umask(0o177)
      try {
        server.listen(short.path, () => {
          server.off('error', reject)
          resolve()
        })
      } finally {
        process.umask(mask)
      }
    })
  } finally {
    short.release()
  }
  // What the kernel could not accept is the peer's problem; it sees the connection fail.
  server.on('error', () => undefined)
}
