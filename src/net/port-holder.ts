/** Who listens on a TCP port of this machine, as far as /proc shows it. Linux; best effort. */
import { readdir, readFile, readlink } from 'node:fs/promises'

/** More processes than this are not searched. */
const PROCESSES_MAX = 4_096

/** `mosquitto (pid 812)`, or null when it cannot be seen. */
export async function findPortHolder(port: number): Promise<string | null> {
  const inodes = new Set<string>()
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const inode of listeningInodes(await readOrEmpty(table), port)) inodes.add(inode)
  }
  if (inodes.size === 0) return null
  const pids = (await listOrEmpty('/proc')).filter(name => /^\d+$/.test(name))
  for (const pid of pids.slice(0, PROCESSES_MAX)) {
    for (const fd of await listOrEmpty(`/proc/${pid}/fd`)) {
      const target = await linkOrEmpty(`/proc/${pid}/fd/${fd}`)
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1]
      if (inode === undefined || !inodes.has(inode)) continue
      const name = (await readOrEmpty(`/proc/${pid}/comm`)).replace(/[^\x20-\x7e]/g, '')
      return `${name === '' ? 'a program' : name} (pid ${pid})`
    }
  }
  return null
}

/** The socket inodes that listen on `port`, out of a table in the form of /proc/net/tcp. */
export function listeningInodes(table: string, port: number): string[] {
  const inodes: string[] = []
  for (const line of table.split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/)
    const [, local, , state] = fields
    const inode = fields[9]
    // 0A: TCP_LISTEN.
    if (local === undefined || state !== '0A' || inode === undefined) continue
    if (Number.parseInt(local.slice(local.lastIndexOf(':') + 1), 16) === port) inodes.push(inode)
  }
  return inodes
}

// Processes come and go, and those of others are closed to us: what cannot be read is left out.
async function readOrEmpty(path: string): Promise<string> {
  return readFile(path, 'latin1').catch(() => '')
}

async function listOrEmpty(path: string): Promise<string[]> {
  return readdir(path).catch(() => [])
}

async function linkOrEmpty(path: string): Promise<string> {
  return readlink(path).catch(() => '')
}
