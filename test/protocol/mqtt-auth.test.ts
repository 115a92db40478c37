/** Enhanced authentication (MQTT 5 §4.12) over real TCP, with a client's side of SCRAM-SHA-256 of its own. */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import mqttPacket, { type IAuthPacket, type IConnackPacket } from 'mqtt-packet'
import { beforeAll, describe, expect, it } from 'vitest'
import { Hasher } from '../../src/auth/password.ts'
import { UserAuthenticator } from '../../src/auth/user-authenticator.ts'
import { makeUser } from '../../src/auth/users.ts'
import type { User } from '../../src/core/principal.ts'
import type { Gateway } from '../support/gateway.ts'
import { hex, publish, startGateway, subscribed } from '../support/mqtt-moves.ts'
import type { RawMqtt } from '../support/raw-mqtt.ts'

const SCRAM = 'SCRAM-SHA-256'
const hasher = new Hasher()
const users = new Map<string, User>()

beforeAll(async () => {
  for (const name of ['ann', 'a,b=c']) {
    users.set(name, await makeUser(hasher, name, Buffer.from('secret'), ['administrator']))
  }
  return () => hasher.close()
})

async function gatewayWithUsers(): Promise<Gateway> {
  const authenticator = new UserAuthenticator(hasher, () => 0)
  authenticator.setUsers(users)
  return await startGateway({
    authenticate: credentials => authenticator.authenticate(credentials),
    exchange: (method, credentials) => authenticator.exchange(method, credentials)
  })
}

/** RFC 5802 from the client's side. */
class ScramClient {
  readonly #user: string
  readonly #password: string
  readonly #nonce = 'rOprNGfwEbeRWgbNEkqO'
  #signature = ''

  constructor(user: string, password: string) {
    this.#user = user
    this.#password = password
  }

  get #bare(): string {
    return `n=${this.#user.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${this.#nonce}`
  }

  first(): Buffer {
    return Buffer.from(`n,,${this.#bare}`)
  }

  final(serverFirst: string, nonce?: string): Buffer {
    const [, full, salt, count] = /^r=([^,]*),s=([^,]*),i=(\d+)$/.exec(serverFirst)!
    expect(full!.startsWith(this.#nonce) && full!.length > this.#nonce.length).toBe(true)
    const salted = pbkdf2Sync(
      this.#password,
      Buffer.from(salt!, 'base64'),
      Number(count),
      32,
      'sha256'
    )
    const hmac = (key: Buffer, data: string) => createHmac('sha256', key).update(data).digest()
    const clientKey = hmac(salted, 'Client Key')
    const storedKey = createHash('sha256').update(clientKey).digest()
    const withoutProof = `c=biws,r=${nonce ?? full}`
    const message = `${this.#bare},${serverFirst},${withoutProof}`
    const signature = hmac(storedKey, message)
    const proof = Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!)).toString('base64')
    this.#signature = hmac(hmac(salted, 'Server Key'), message).toString('base64')
    return Buffer.from(`${withoutProof},p=${proof}`)
  }

  expectServer(data: Buffer | undefined): void {
    expect(String(data)).toBe(`v=${this.#signature}`)
  }
}

function sendAuth(raw: RawMqtt, reasonCode: number, data: Buffer, method = SCRAM): void {
  const properties = { authenticationMethod: method, authenticationData: data }
  raw.send(
    mqttPacket.generate({ cmd: 'auth', reasonCode, properties }, { protocolVersion: 5 } as object)
  )
}

/** Sends a CONNECT that names the method; what it is answered with comes later. */
async function begin(
  gateway: Gateway,
  data: Buffer | undefined,
  options: object = {},
  method = SCRAM
): Promise<RawMqtt> {
  const raw = await gateway.dial()
  raw.version = 5
  raw.send(
    mqttPacket.generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 5,
      clientId: 'x',
      clean: true,
      keepalive: 60,
      properties: {
        authenticationMethod: method,
        ...(data === undefined ? {} : { authenticationData: data })
      },
      ...options
    })
  )
  return raw
}

async function nextAuth(raw: RawMqtt, reasonCode: number): Promise<string> {
  const packet = (await raw.read()) as IAuthPacket
  expect(packet).toMatchObject({ cmd: 'auth', reasonCode })
  expect(packet.properties?.authenticationMethod).toBe(SCRAM)
  return String(packet.properties?.authenticationData ?? '')
}

async function loggedIn(gateway: Gateway, user = 'ann'): Promise<RawMqtt> {
  const client = new ScramClient(user, 'secret')
  const raw = await begin(gateway, client.first())
  sendAuth(raw, 0x18, client.final(await nextAuth(raw, 0x18)))
  const connack = (await raw.read()) as IConnackPacket
  expect(connack).toMatchObject({ cmd: 'connack', reasonCode: 0 })
  expect(connack.properties?.authenticationMethod).toBe(SCRAM)
  client.expectServer(connack.properties?.authenticationData)
  return raw
}

async function connackReason(raw: RawMqtt): Promise<number> {
  const connack = await raw.next()
  expect(connack[0]).toBe(0x20)
  expect(await raw.rest()).toEqual([])
  return connack[3]!
}

describe('SCRAM-SHA-256', () => {
  it('lets in who knows the password, and proves itself, v5 [MQTT-4.12.0-2] [MQTT-4.12.0-5]', async () => {
    const gateway = await gatewayWithUsers()
    const raw = await loggedIn(gateway)
    await subscribed(raw, 'a', 1)
    publish(raw, 0x30, 'a', 'x')
    expect((await raw.next())[0]).toBe(0x30)
    expect(gateway.broker.vhosts.get('/')!.sessions.get('x')!.user).toBe('ann')
  })

  it('takes a name with a comma and an equals sign', async () => {
    await loggedIn(await gatewayWithUsers(), 'a,b=c')
  })

  it('asks a client that names the method alone for its first message', async () => {
    const client = new ScramClient('ann', 'secret')
    const raw = await begin(await gatewayWithUsers(), undefined)
    expect(await nextAuth(raw, 0x18)).toBe('')
    sendAuth(raw, 0x18, client.first())
    sendAuth(raw, 0x18, client.final(await nextAuth(raw, 0x18)))
    expect(((await raw.read()) as IConnackPacket).reasonCode).toBe(0)
  })

  it('refuses a wrong password and an unknown user alike, v5 [MQTT-4.12.0-4]', async () => {
    const gateway = await gatewayWithUsers()
    const salts: string[] = []
    for (const [user, password] of [
      ['ann', 'wrong'],
      ['nobody', 'secret'],
      ['nobody', 'other']
    ]) {
      const client = new ScramClient(user!, password!)
      const raw = await begin(gateway, client.first())
      const serverFirst = await nextAuth(raw, 0x18)
      salts.push(/s=([^,]*)/.exec(serverFirst)![1]!)
      expect(serverFirst).toMatch(/,i=100000$/)
      sendAuth(raw, 0x18, client.final(serverFirst))
      expect(await connackReason(raw)).toBe(0x86)
    }
    expect(salts[1]).toBe(salts[2])
    expect(salts[1]!.length).toBe(salts[0]!.length)
    expect(gateway.broker.state.sessions.size).toBe(0)
  })

  it('refuses a proof that belongs to another nonce, and the same message twice', async () => {
    const gateway = await gatewayWithUsers()
    const client = new ScramClient('ann', 'secret')
    const raw = await begin(gateway, client.first())
    sendAuth(raw, 0x18, client.final(await nextAuth(raw, 0x18), 'rOprNGfwEbeRWgbNEkqOelse'))
    expect(await connackReason(raw)).toBe(0x86)
    const replayer = new ScramClient('ann', 'secret')
    const first = await begin(gateway, replayer.first())
    const final = replayer.final(await nextAuth(first, 0x18))
    sendAuth(first, 0x18, final)
    expect(((await first.read()) as IConnackPacket).reasonCode).toBe(0)
    const second = await begin(gateway, replayer.first(), { clientId: 'y' })
    await nextAuth(second, 0x18)
    sendAuth(second, 0x18, final)
    expect(await connackReason(second)).toBe(0x86)
  })

  it.each([
    'p=tls-unique,,n=ann,r=abc',
    'n,,m=ext,n=ann,r=abc',
    'n,a=bob,n=ann,r=abc',
    'n,,n=a=ann,r=abc',
    'n,,n=,r=abc',
    'n,,n=ann,r=',
    'n,,n=ann',
    '',
    'n,,n=\ufffd\u0000'
  ])('refuses a first message %j', async first => {
    const raw = await begin(await gatewayWithUsers(), Buffer.from(first))
    expect(await connackReason(raw)).toBe(0x86)
  })

  it('refuses who calls itself otherwise beside the exchange', async () => {
    const client = new ScramClient('ann', 'secret')
    const raw = await begin(await gatewayWithUsers(), client.first(), { username: 'bob' })
    sendAuth(raw, 0x18, client.final(await nextAuth(raw, 0x18)))
    expect(await connackReason(raw)).toBe(0x86)
  })

  it('slows down who guesses, whatever port it comes from [B91]', async () => {
    const gateway = await gatewayWithUsers()
    const reasons: number[] = []
    for (let i = 0; i < 8; i++) {
      const client = new ScramClient('ann', 'wrong')
      const raw = await begin(gateway, client.first())
      sendAuth(raw, 0x18, client.final(await nextAuth(raw, 0x18)))
      reasons.push(await connackReason(raw))
    }
    expect(reasons).toEqual([0x86, 0x86, 0x86, 0x86, 0x86, 0x89, 0x89, 0x89])
  })
})

describe('enhanced authentication', () => {
  it('refuses a method that is not known, and any while there are no users [B32], v5 [MQTT-4.12.0-1]', async () => {
    const raw = await begin(await gatewayWithUsers(), Buffer.from('x'), {}, 'GS2-KRB5')
    expect(await connackReason(raw)).toBe(0x8c)
    const open = await startGateway()
    expect(await connackReason(await begin(open, Buffer.from('x')))).toBe(0x8c)
  })

  it.each([
    ['SUBSCRIBE', '82 07 00 01 00 00 01 61 00', 0x82],
    ['PUBLISH', '30 04 00 01 61 00', 0x82],
    ['PINGREQ', 'c0 00', 0x82],
    ['CONNECT', '10 0d 00 04 4d 51 54 54 05 02 00 3c 00 00 00', 0x82],
    ['AUTH of success', 'f0 00', 0x82],
    ['AUTH of another method', 'f0 06 18 04 15 00 01 58', 0x82]
  ])('takes nothing but its own AUTH before the CONNACK: %s', async (_, bytes, reason) => {
    const gateway = await gatewayWithUsers()
    const raw = await begin(gateway, new ScramClient('ann', 'secret').first())
    await nextAuth(raw, 0x18)
    raw.send(bytes)
    expect(await connackReason(raw)).toBe(reason)
    expect(gateway.broker.state.sessions.size).toBe(0)
  })

  it('is not begun by us, v5 [MQTT-4.12.0-6]', async () => {
    const gateway = await gatewayWithUsers()
    const raw = await gateway.dial()
    raw.version = 5
    const connack = await raw.connect(5, { username: 'ann', password: Buffer.from('secret') })
    expect(connack[3]).toBe(0)
    expect(connack.includes(SCRAM)).toBe(false)
    await raw.quiet()
  })

  it('ends without a word when the client disconnects instead', async () => {
    const raw = await begin(await gatewayWithUsers(), new ScramClient('ann', 'secret').first())
    await nextAuth(raw, 0x18)
    raw.send('e0 00')
    expect(await raw.rest()).toEqual([])
  })

  it('has the time of a login, not more', async () => {
    const gateway = await gatewayWithUsers()
    const raw = await begin(gateway, new ScramClient('ann', 'secret').first())
    await nextAuth(raw, 0x18)
    gateway.pass(9)
    expect(gateway.mqtt.count).toBe(1)
    gateway.pass(1)
    expect(await raw.rest()).toEqual([])
  })

  it('keeps what comes behind the last AUTH until the CONNACK has left', async () => {
    const gateway = await gatewayWithUsers()
    const client = new ScramClient('ann', 'secret')
    const raw = await begin(gateway, client.first())
    const final = client.final(await nextAuth(raw, 0x18))
    const properties = { authenticationMethod: SCRAM, authenticationData: final }
    raw.send(
      mqttPacket.generate({ cmd: 'auth', reasonCode: 0x18, properties }, {
        protocolVersion: 5
      } as object),
      'c0 00'
    )
    expect((await raw.next())[0]).toBe(0x20)
    expect(hex(await raw.next())).toBe('d000')
  })

  it('does not let a stranger make us buffer more than 64 KiB', async () => {
    const raw = await begin(await gatewayWithUsers(), new ScramClient('ann', 'secret').first())
    await nextAuth(raw, 0x18)
    raw.send('f0 ff ff 04')
    expect(await connackReason(raw)).toBe(0x95)
  })
})

describe('re-authentication', () => {
  it('shows anew who it is, while messages go on, v5 [MQTT-4.12.1-1]', async () => {
    const gateway = await gatewayWithUsers()
    const raw = await loggedIn(gateway)
    await subscribed(raw, 'a', 0)
    const client = new ScramClient('ann', 'secret')
    sendAuth(raw, 0x19, client.first())
    const serverFirst = await nextAuth(raw, 0x18)
    publish(raw, 0x30, 'a', 'x')
    expect((await raw.next())[0]).toBe(0x30)
    sendAuth(raw, 0x18, client.final(serverFirst))
    client.expectServer(Buffer.from(await nextAuth(raw, 0x00)))
    await raw.quiet()
  })

  it('ends the connection when it fails or shows another user, v5 [MQTT-4.12.1-2]', async () => {
    const gateway = await gatewayWithUsers()
    for (const [user, password] of [
      ['ann', 'wrong'],
      ['a,b=c', 'secret']
    ]) {
      const raw = await loggedIn(gateway)
      const client = new ScramClient(user!, password!)
      sendAuth(raw, 0x19, client.first())
      sendAuth(raw, 0x18, client.final(await nextAuth(raw, 0x18)))
      const last = await raw.rest()
      expect(last.map(packet => [packet[0], packet[2]])).toEqual([[0xe0, 0x87]])
    }
  })

  it('must begin as such, with the same method [B33]', async () => {
    const gateway = await gatewayWithUsers()
    for (const [reason, method] of [
      [0x18, SCRAM],
      [0x19, 'OTHER'],
      [0x00, SCRAM]
    ] as const) {
      const raw = await loggedIn(gateway)
      sendAuth(raw, reason, Buffer.from('n,,n=ann,r=x'), method)
      const last = await raw.rest()
      expect(last.map(packet => [packet[0], packet[2]])).toEqual([[0xe0, 0x82]])
    }
  })
})
