/** SOCKS5 (RFC 1928) with no authentication or user and password (RFC 1929); the proxy looks names up. */
import type { Socket } from 'node:net'

export interface SocksProxy {
  readonly host: string
  readonly port: number
  readonly username: string | null
  readonly password: string | null
}

const VERSION = 5
const NO_LOGIN = 0
const USER_PASSWORD = 2
const CONNECT = 1
const ADDRESS_BYTES: Readonly<Record<number, number>> = { 1: 4, 4: 16 }
const DOMAIN = 3

/** Asks the proxy behind `socket` for a connection to `host:port`. Rejects with an error that has a `code`. */
export async function throughProxy(
  socket: Socket,
  proxy: SocksProxy,
  host: string,
  port: number
): Promise<void> {
  const wanted = proxy.username === null ? NO_LOGIN : USER_PASSWORD
  socket.write(Buffer.from([VERSION, 1, wanted]))
  const [, method] = await readBytes(socket, 2)
  if (method !== wanted) throw refusal('the proxy takes no such login')
  if (proxy.username !== null) {
    const name = Buffer.from(proxy.username)
    const password = Buffer.from(proxy.password ?? '')
    socket.write(
      Buffer.concat([Buffer.from([1, name.length]), name, Buffer.from([password.length]), password])
    )
    const [, status] = await readBytes(socket, 2)
    if (status !== 0) throw refusal('the proxy refuses the login')
  }
  const name = Buffer.from(host)
  const head = Buffer.from([VERSION, CONNECT, 0, DOMAIN, name.length])
  socket.write(Buffer.concat([head, name, Buffer.from([port >> 8, port & 255])]))
  const answer = await readBytes(socket, 4)
  if (answer[1] !== 0) throw refusal(`the proxy cannot connect (${answer[1]})`)
  const kind = answer[3]!
  const bytes = kind === DOMAIN ? (await readBytes(socket, 1))[0]! : (ADDRESS_BYTES[kind] ?? 0)
  await readBytes(socket, bytes + 2)
}

function refusal(message: string): Error {
  return Object.assign(new Error(message), { code: 'ECONNREFUSED' })
}

/** Exactly `count` bytes; what comes behind them stays in the socket. */
async function readBytes(socket: Socket, count: number): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read(count) as Buffer | null
    if (bytes !== null && bytes.length === count) return bytes
    if (bytes !== null) socket.unshift(bytes)
    await new Promise<void>((resolve, reject) => {
      const ended = (): void => {
        socket.off('readable', ready)
        reject(refusal('the proxy closed the connection'))
      }
      const ready = (): void => {
        socket.off('close', ended)
        socket.off('end', ended)
        resolve()
      }
      socket.once('close', ended)
      socket.once('end', ended)
      socket.once('readable', ready)
    })
  }
}
