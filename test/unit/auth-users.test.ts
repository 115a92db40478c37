import { createHash, createHmac, pbkdf2Sync, scryptSync, timingSafeEqual } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Credentials } from '../../src/auth/authenticator.ts'
import {
  Hasher,
  HasherBusyError,
  hashPassword,
  parseHash,
  PasswordChecker
} from '../../src/auth/password.ts'
import { UserAuthenticator } from '../../src/auth/user-authenticator.ts'
import { generatePassword, makeUser, StoredUsers, type UserStore } from '../../src/auth/users.ts'
import type { User } from '../../src/core/principal.ts'

const hasher = new Hasher()
let ann: User
let ben: User

beforeAll(async () => {
  ann = await makeUser(hasher, 'ann', Buffer.from('pässword'), ['administrator'])
  ben = await makeUser(hasher, 'ben', Buffer.from([0xff, 0x00, 0x01]))
})
afterAll(() => hasher.close())

function show(part: Partial<Credentials> = {}): Credentials {
  return {
    protocol: 'mqtt',
    username: 'ann',
    password: Buffer.from('pässword'),
    clientId: 'c',
    vhost: '/',
    peer: '10.0.0.1',
    isLoopback: false,
    ...part
  }
}

function withUsers(users: readonly User[], nowMs: () => number = () => 0): UserAuthenticator {
  const authenticator = new UserAuthenticator(hasher, nowMs)
  authenticator.setUsers(new Map(users.map(user => [user.name, user])))
  return authenticator
}

describe('password hashes', () => {
  it('are scrypt with N=2^15, r=8, p=1 and a salt of their own', async () => {
    const parts = ann.passwordHash.split('$')
    expect(parts.slice(0, 4)).toEqual(['scrypt', '32768', '8', '1'])
    const salt = Buffer.from(parts[4]!, 'base64')
    expect(salt).toHaveLength(16)
    const expected = scryptSync('pässword', salt, 32, { N: 32768, r: 8, p: 1, maxmem: 2 ** 26 })
    expect(timingSafeEqual(Buffer.from(parts[5]!, 'base64'), expected)).toBe(true)
    const again = await hashPassword(hasher, Buffer.from('pässword'))
    expect(again.passwordHash).not.toBe(ann.passwordHash)
  })

  it('come with the keys of SCRAM-SHA-256 (RFC 5802 §3)', () => {
    const [iterations, salt, storedKey, serverKey] = ann.scram.split('$')
    const salted = pbkdf2Sync(
      'pässword',
      Buffer.from(salt!, 'base64'),
      Number(iterations),
      32,
      'sha256'
    )
    const clientKey = createHmac('sha256', salted).update('Client Key').digest()
    expect(storedKey).toBe(createHash('sha256').update(clientKey).digest('base64'))
    expect(serverKey).toBe(createHmac('sha256', salted).update('Server Key').digest('base64'))
    expect(Number(iterations)).toBeGreaterThanOrEqual(4096)
  })

  it('of a password that is no text have no SCRAM keys', () => {
    expect(ben.scram).toBe('')
  })

  it('with costs beyond their bounds are none', () => {
    const tail = `${'A'.repeat(22)}==$${'A'.repeat(43)}=`
    expect(parseHash(`scrypt$32768$8$1$${tail}`)).not.toBeNull()
    for (const cost of ['1048576$8$1', '3$8$1', '32768$8$5', '32768$8', 'x$8$1']) {
      expect(parseHash(`scrypt$${cost}$${tail}`), cost).toBeNull()
    }
    expect(parseHash('plain')).toBeNull()
    expect(parseHash('scrypt$32768$8$1$$')).toBeNull()
  })
})

describe('PasswordChecker', () => {
  it('hashes a password once and remembers it', async () => {
    const checker = new PasswordChecker(hasher)
    const password = Buffer.from('pässword')
    expect(checker.isRemembered('ann', ann.passwordHash, password)).toBe(false)
    const before = hasher.count
    const checks = Array.from({ length: 200 }, () =>
      checker.check('ann', ann.passwordHash, password)
    )
    expect(await Promise.all(checks)).toEqual(Array.from({ length: 200 }, () => true))
    expect(hasher.count).toBe(before + 1)
    expect(checker.isRemembered('ann', ann.passwordHash, password)).toBe(true)
    expect(checker.isRemembered('ann', ann.passwordHash, Buffer.from('other'))).toBe(false)
    expect(checker.isRemembered('ann', ben.passwordHash, password)).toBe(false)
    checker.forget('ann')
    expect(checker.isRemembered('ann', ann.passwordHash, password)).toBe(false)
  })

  it('does the same work for a user that does not exist', async () => {
    const checker = new PasswordChecker(hasher)
    const before = hasher.count
    expect(await checker.check('nobody', '', Buffer.from('x'))).toBe(false)
    expect(hasher.count).toBe(before + 1)
    expect(checker.isRemembered('nobody', '', Buffer.from('x'))).toBe(false)
  })

  it('lets at most 64 wait and refuses the rest as busy', async () => {
    const own = new Hasher()
    const checker = new PasswordChecker(own)
    const checks = Array.from({ length: 100 }, (_, i) =>
      checker.check('ann', ann.passwordHash, Buffer.from(`wrong${i}`)).then(
        () => 'checked',
        (error: unknown) => (error instanceof HasherBusyError ? 'busy' : 'failed')
      )
    )
    expect(own.waitingCount).toBe(64)
    await own.close()
    const results = await Promise.all(checks)
    expect(results.filter(result => result === 'busy')).toHaveLength(100 - 65)
  })
})

describe('UserAuthenticator without users', () => {
  const local = { isLoopback: true, peer: '127.0.0.1' }

  it('takes anonymous MQTT clients of this machine only', async () => {
    const authenticator = withUsers([])
    const anonymous = { username: null, password: null }
    const result = await authenticator.authenticate(show({ ...anonymous, ...local }))
    expect(result.ok && result.principal).toMatchObject({
      name: '',
      tags: ['monitoring'],
      isUnrestricted: true
    })
    expect(await authenticator.authenticate(show(anonymous))).toEqual({
      ok: false,
      reason: 'not-authorized'
    })
  })

  it('takes guest/guest over AMQP and HTTP from this machine only', async () => {
    const authenticator = withUsers([])
    for (const protocol of ['amqp', 'http'] as const) {
      const guest = { protocol, username: 'guest', password: Buffer.from('guest') }
      const result = await authenticator.authenticate(show({ ...guest, ...local }))
      expect(result.ok && result.principal.isAdmin).toBe(true)
      expect((await authenticator.authenticate(show(guest))).ok).toBe(false)
      const wrong = show({ ...guest, ...local, password: Buffer.from('Guest') })
      expect(await authenticator.authenticate(wrong)).toEqual({
        ok: false,
        reason: 'bad-credentials'
      })
      const none = show({ protocol, username: null, password: null, ...local })
      expect((await authenticator.authenticate(none)).ok).toBe(false)
    }
  })

  it('takes neither any more once there is a user', async () => {
    const authenticator = withUsers([ann])
    const anonymous = show({ username: null, password: null, ...local })
    expect(await authenticator.authenticate(anonymous)).toEqual({
      ok: false,
      reason: 'not-authorized'
    })
    const guest = show({
      protocol: 'amqp',
      username: 'guest',
      password: Buffer.from('guest'),
      ...local
    })
    expect(await authenticator.authenticate(guest)).toEqual({
      ok: false,
      reason: 'bad-credentials'
    })
  })
})

describe('UserAuthenticator with users', () => {
  it('takes the right password, bytes and all, from anywhere', async () => {
    const authenticator = withUsers([ann, ben])
    const result = await authenticator.authenticate(show({ vhost: '/x' }))
    expect(result.ok && result.principal).toMatchObject({ name: 'ann', vhost: '/x', isAdmin: true })
    const bytes = show({ username: 'ben', password: Buffer.from([0xff, 0x00, 0x01]) })
    expect((await authenticator.authenticate(bytes)).ok).toBe(true)
    expect(authenticator.counters).toEqual({ succeeded: 2, failed: 0, busy: 0 })
  })

  it('refuses a wrong, missing or empty password, an unknown user, one without password', async () => {
    const open: User = { ...ann, name: 'open', passwordHash: '', scram: '' }
    const authenticator = withUsers([ann, open])
    for (const part of [
      { password: Buffer.from('wrong') },
      { password: null },
      { password: Buffer.alloc(0) },
      { username: 'nobody' },
      { username: '' },
      { username: 'open' },
      { username: 'open', password: Buffer.alloc(0) }
    ]) {
      const result = await authenticator.authenticate(show(part))
      expect(result).toEqual({ ok: false, reason: 'bad-credentials' })
    }
  })

  it('pauses one who guesses, and then refuses right passwords too', async () => {
    let nowMs = 0
    const authenticator = withUsers([ann], () => nowMs)
    expect((await authenticator.authenticate(show())).ok).toBe(true)
    for (let i = 0; i < 5; i++) {
      const result = await authenticator.authenticate(show({ password: Buffer.from(`x${i}`) }))
      expect(result).toEqual({ ok: false, reason: 'bad-credentials' })
    }
    expect(await authenticator.authenticate(show())).toEqual({ ok: false, reason: 'busy' })
    expect((await authenticator.authenticate(show({ peer: '10.0.0.2' }))).ok).toBe(true)
    nowMs = 1_000
    expect((await authenticator.authenticate(show())).ok).toBe(true)
  })

  it('lets a whole site come back at once with one hash', async () => {
    const authenticator = withUsers([ann])
    const before = hasher.count
    const site = Array.from({ length: 1_000 }, () => authenticator.authenticate(show()))
    expect((await Promise.all(site)).every(result => result.ok)).toBe(true)
    expect(hasher.count).toBe(before + 1)
  })

  it('refuses a password that was changed, a user that was removed, while it was checked', async () => {
    const authenticator = withUsers([ann, ben])
    const changed = authenticator.authenticate(show())
    authenticator.setUsers(
      new Map([
        ['ann', { ...ann, passwordHash: ben.passwordHash }],
        ['ben', ben]
      ])
    )
    expect(await changed).toEqual({ ok: false, reason: 'bad-credentials' })
    const other = withUsers([ann, ben])
    const removed = other.authenticate(show())
    other.setUsers(new Map([['ben', ben]]))
    expect((await removed).ok).toBe(false)
  })

  it('is unrestricted only while no rule exists in the whole broker', () => {
    const rule = { effect: 'allow', access: 'read', filter: 'a' } as const
    const resource = { vhost: '/', configure: '', write: '', read: '' }
    const authenticator = withUsers([ann, ben])
    const isFree = (users: User[], topics: (typeof rule)[] = []) => {
      authenticator.setUsers(new Map(users.map(user => [user.name, user])), topics)
      return authenticator.principalOf('ann', '/')!.isUnrestricted
    }
    expect(isFree([ann, ben])).toBe(true)
    expect(isFree([ann, { ...ben, topics: [rule] }])).toBe(false)
    expect(isFree([ann, { ...ben, resources: [resource] }])).toBe(false)
    expect(isFree([ann, ben], [rule])).toBe(false)
    expect(authenticator.principalOf('ann', '/')!.topics).toEqual([rule])
    expect(authenticator.principalOf('nobody', '/')).toBeNull()
  })
})

describe('StoredUsers', () => {
  function storeOf(configured: readonly string[] = []) {
    const users = new Map<string, User>([['ann', ann]])
    const store: UserStore = {
      hasVhost: name => name === '/',
      hasCommonRules: false,
      users: () => users,
      isConfigured: name => configured.includes(name),
      putUser: async user => {
        users.set(user.name, user)
      },
      deleteUser: async name => {
        users.delete(name)
      }
    }
    return { users, admin: new StoredUsers(store, hasher) }
  }

  it('refuses names that are empty, too long, or hold control characters', async () => {
    const { admin, users } = storeOf()
    for (const name of ['', 'a\u0000', 'a\n', 'a\u009f', 'x'.repeat(257), '\ud800']) {
      await expect(admin.add(name, Buffer.from('x'), [])).rejects.toMatchObject({
        code: 'argumentInvalid'
      })
    }
    await admin.add('x'.repeat(256), Buffer.from('x'), [])
    expect(users.size).toBe(2)
  })

  it('refuses empty passwords and odd tags', async () => {
    const { admin } = storeOf()
    await expect(admin.add('b', Buffer.alloc(0), [])).rejects.toMatchObject({
      code: 'argumentInvalid'
    })
    await expect(admin.add('b', Buffer.from('x'), ['a b'])).rejects.toMatchObject({
      code: 'argumentInvalid'
    })
  })

  it('gives a name once, even when asked twice at the same time', async () => {
    const { admin } = storeOf()
    const both = await Promise.allSettled([
      admin.add('new', Buffer.from('1'), []),
      admin.add('new', Buffer.from('2'), [])
    ])
    expect(both.map(result => result.status)).toEqual(['fulfilled', 'rejected'])
  })

  it('keeps rules and tags when a password is changed', async () => {
    const { admin, users } = storeOf()
    await admin.setPassword('ann', Buffer.from('new'))
    expect(users.get('ann')).toMatchObject({ name: 'ann', tags: ['administrator'] })
    expect(users.get('ann')!.passwordHash).not.toBe(ann.passwordHash)
    await expect(admin.setPassword('no', Buffer.from('x'))).rejects.toMatchObject({
      code: 'notFound'
    })
  })

  it('does not touch users of the config file', async () => {
    const { admin } = storeOf(['ann'])
    await expect(admin.remove('ann')).rejects.toMatchObject({ code: 'notAllowed' })
    await expect(admin.setPassword('ann', Buffer.from('x'))).rejects.toMatchObject({
      code: 'notAllowed'
    })
  })

  it('makes passwords that nobody guesses', () => {
    const made = new Set(Array.from({ length: 100 }, generatePassword))
    expect(made.size).toBe(100)
    for (const password of made) expect(password).toMatch(/^[A-Za-z0-9_-]{24}$/)
  })
})
