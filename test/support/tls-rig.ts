/** The program with listeners of every kind of TLS, and files of its own that a test may change. */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { Authority, type Made } from './certs.ts'
import { runMotemq } from './motemq-process.ts'
import { type LogLine, Program } from './program.ts'

export const PSK = '00112233445566778899aabbccddeeff'
/** CONNECT of MQTT 3.1.1, a clean session, no client id; and its answer. */
export const CONNECT = Buffer.from('100c00044d515454040200000000', 'hex')
export const ACCEPTED = '20020000'

const PORTS = [
  /** With the files of `motemq certs init`. */
  'own',
  /** A certificate is a must, and names the user. */
  'named',
  'optional',
  'psk',
  'amqp',
  'plain',
  'second',
  'web',
  'https'
] as const
export type Port = (typeof PORTS)[number]

export class TlsRig {
  readonly folder = mkdtempSync(join(tmpdir(), 'motemq-tls-'))
  readonly authority = new Authority()
  program!: Program
  /** Who issued the certificate of `own`. */
  ca = ''

  async open(): Promise<void> {
    const { authority } = this
    this.putServer(authority.server())
    this.put('ca.crt', authority.own.cert)
    this.put('crl.pem', authority.crl([]))
    this.put('psk', `lamp:${PSK}\n`)
    const own = `cert: ${this.file('server.crt')}, key: ${this.file('server.key')}`
    const checks = `ca: ${this.file('ca.crt')}, crl: ${this.file('crl.pem')}, useIdentity: cn`
    const url = 'url: "mqtts://127.0.0.1:0"'
    const lines = [
      'mqtts://127.0.0.1:0',
      `{ ${url}, tls: { ${own}, ${checks}, requireCert: true } }`,
      `{ ${url}, tls: { ${own}, ${checks} } }`,
      `{ ${url}, tls: { psk: ${this.file('psk')}, usePskIdentity: true } }`,
      `{ url: "amqps://127.0.0.1:0", tls: { ${own} } }`,
      'mqtt://127.0.0.1:0',
      `{ ${url}, tls: { ${own}, ${checks}, requireCert: true } }`,
      `{ url: "wss://127.0.0.1:0", tls: { ${own}, ${checks} } }`,
      `{ url: "https://127.0.0.1:0", tls: { ${own} } }`
    ]
    this.put('motemq.yaml', `listeners:\n${lines.map(line => `  - ${line}\n`).join('')}`)
    const data = join(this.folder, 'data')
    const { code, stderr } = await runMotemq(['certs', 'init', '--data', data], {
      cwd: this.folder
    })
    if (code !== 0) throw new Error(stderr)
    this.ca = readFileSync(join(data, 'certs', 'ca.crt'), 'utf8')
    this.program = await Program.start({
      dataDir: data,
      listen: [],
      flags: ['--config', this.file('motemq.yaml')]
    })
  }

  async close(): Promise<void> {
    await this.program.remove()
    rmSync(this.folder, { recursive: true, force: true })
  }

  file(name: string): string {
    return join(this.folder, name)
  }

  /** Replaces a file as a careful program does. */
  put(name: string, text: string): void {
    writeFileSync(this.file(`${name}.new`), text, { mode: 0o600 })
    renameSync(this.file(`${name}.new`), this.file(name))
  }

  putServer(made: Made): void {
    this.put('server.key', made.key)
    this.put('server.crt', made.cert)
  }

  port(which: Port): number {
    return Number(new URL(this.program.urls[PORTS.indexOf(which)]!).port)
  }

  refusedBecause(reason: string): Promise<LogLine> {
    return this.program.waitForLog(
      line => line['msg'] === 'refused' && String(line['reason']).includes(reason)
    )
  }

  connected(user: string): Promise<LogLine> {
    return this.program.waitForLog(line => line['msg'] === 'connected' && line['user'] === user)
  }

  /** What comes back on a CONNECT, in hexadecimal; '' when the connection ends without an answer. */
  answerOf(which: Port, options: ConnectionOptions, packet: Buffer = CONNECT): Promise<string> {
    return new Promise(resolve => {
      const socket = connect({
        host: '127.0.0.1',
        port: this.port(which),
        servername: 'localhost',
        rejectUnauthorized: false,
        ...options
      })
      let answer = ''
      socket.on('secureConnect', () => socket.write(packet))
      socket.on('data', chunk => {
        answer += chunk.toString('hex')
        socket.destroy()
      })
      socket.on('error', () => undefined)
      socket.on('close', () => resolve(answer))
    })
  }
}

/** A handshake that is done. */
export async function secure(options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', rejectUnauthorized: false, ...options })
  await new Promise((resolve, reject) => socket.on('secureConnect', resolve).on('error', reject))
  return socket
}

/** The first session that a server gives; it holds for the name that it was called by. */
export async function sessionOf(options: ConnectionOptions): Promise<Buffer> {
  const socket = connect({
    ...{ host: '127.0.0.1', servername: 'localhost', rejectUnauthorized: false },
    ...options
  })
  const session = await new Promise<Buffer>((resolve, reject) =>
    socket.once('session', resolve).once('error', reject)
  )
  socket.destroy()
  return session
}

export function pskOptions(hex: string, identity: string): ConnectionOptions {
  return {
    ciphers: 'PSK-AES128-GCM-SHA256',
    maxVersion: 'TLSv1.2',
    checkServerIdentity: () => undefined,
    pskCallback: () => ({ psk: Buffer.from(hex, 'hex'), identity })
  }
}
