import { describe, expect, it } from 'vitest'
import {
  compileResourcePattern,
  isValidRuleFilter,
  mayFilter,
  mayResource,
  mayTopic
} from '../../src/core/permissions.ts'
import { Principal, type ResourceRule, type TopicRule } from '../../src/core/principal.ts'

const CLIENT = 'client-1'

function rule(text: string): TopicRule {
  const [effect, access, filter] = text.split(' ') as [string, string, string]
  return { effect, access, filter } as TopicRule
}

function principal(
  rules: string[],
  options: { name?: string; tags?: string[]; resources?: ResourceRule[]; free?: boolean } = {}
): Principal {
  return new Principal(
    options.name ?? 'ann',
    options.tags ?? [],
    '/',
    options.resources ?? [],
    rules.map(rule),
    options.free ?? false
  )
}

function resources(configure: string, write: string, read: string): ResourceRule[] {
  return [
    { vhost: 'other', configure: '.*', write: '.*', read: '.*' },
    { vhost: '/', configure, write, read }
  ]
}

/** Roles of the matrix: every action of every protocol comes down to one of the questions below. */
const ROLES = {
  free: principal([], { free: true }),
  admin: principal([], { tags: ['administrator'], free: true }),
  'admin with rules': principal(['allow readwrite ops/#'], {
    tags: ['administrator'],
    resources: resources('^ops', '^ops', '^ops')
  }),
  'no rules': principal([]),
  device: principal(['allow write dev/%u/#', 'allow read cmd/%u/+', 'deny write dev/%u/locked'], {
    resources: resources('', '', '')
  }),
  backend: principal(['allow read #', 'deny read secret/#'], {
    resources: resources('^tele', '^tele', '.*')
  })
}

type Role = keyof typeof ROLES

/** Asked by: MQTT CONNECT (will), PUBLISH; AMQP publish to a topic exchange; HTTP publish. */
const WRITES = {
  'dev/ann/temp': ['free', 'admin', 'device'],
  'dev/ann': ['free', 'admin', 'device'],
  'dev/ann/locked': ['free', 'admin'],
  'dev/bob/temp': ['free', 'admin'],
  'cmd/ann/x': ['free', 'admin'],
  'ops/x': ['free', 'admin', 'admin with rules'],
  '$SYS/x': [],
  '$CONTROL/x': [],
  '$share/g/x': []
} as const satisfies Record<string, readonly Role[]>

/** Asked by: delivery (live, retained, offline), MQTT SUBSCRIBE without wildcards, HTTP get. */
const READS = {
  'cmd/ann/x': ['free', 'admin', 'device', 'backend'],
  'cmd/ann/x/y': ['free', 'admin', 'backend'],
  'cmd/bob/x': ['free', 'admin', 'backend'],
  'dev/ann/temp': ['free', 'admin', 'backend'],
  secret: ['free', 'admin'],
  'secret/x': ['free', 'admin'],
  'ops/x': ['free', 'admin', 'admin with rules', 'backend'],
  '$SYS/broker/uptime': ['admin', 'admin with rules'],
  $SYS: ['admin', 'admin with rules'],
  $SYSTEM: [],
  '$other/x': []
} as const satisfies Record<string, readonly Role[]>

type Verdicts = Partial<Record<Role, 'all' | 'some'>>

/** Asked by: MQTT SUBSCRIBE (shared too), AMQP bind to a topic exchange, HTTP. The rest gets 'none'. */
const FILTERS: Record<string, Verdicts> = {
  '#': { free: 'all', admin: 'all', 'admin with rules': 'some', device: 'some', backend: 'some' },
  '+/+': { free: 'all', admin: 'all', 'admin with rules': 'some', backend: 'some' },
  '+/+/+': {
    free: 'all',
    admin: 'all',
    'admin with rules': 'some',
    device: 'some',
    backend: 'some'
  },
  'cmd/#': { free: 'all', admin: 'all', device: 'some', backend: 'all' },
  'cmd/+/#': { free: 'all', admin: 'all', device: 'some', backend: 'all' },
  'cmd/ann/+': { free: 'all', admin: 'all', device: 'all', backend: 'all' },
  'cmd/bob/+': { free: 'all', admin: 'all', backend: 'all' },
  'secret/+': { free: 'all', admin: 'all' },
  'secret/#': { free: 'all', admin: 'all' },
  'ops/#': { free: 'all', admin: 'all', 'admin with rules': 'all', backend: 'all' },
  'ops/+/x/#': { free: 'all', admin: 'all', 'admin with rules': 'all', backend: 'all' },
  '$SYS/#': { admin: 'all', 'admin with rules': 'all' },
  '$other/#': {},
  '$SYSTEM/#': {}
}

/** Asked by: AMQP declare, bind, publish, consume, get, purge; HTTP on queues and exchanges. */
const RESOURCES: Record<'configure' | 'write' | 'read', Record<string, readonly Role[]>> = {
  configure: {
    telemetry: ['free', 'admin', 'backend'],
    'my-telemetry': ['free', 'admin'],
    'ops-queue': ['free', 'admin', 'admin with rules'],
    '': ['free', 'admin']
  },
  write: {
    telemetry: ['free', 'admin', 'backend'],
    'amq.topic': ['free', 'admin'],
    '': ['free', 'admin']
  },
  read: {
    telemetry: ['free', 'admin', 'backend'],
    'amq.topic': ['free', 'admin', 'backend'],
    '': ['free', 'admin', 'backend']
  }
}

const roles = Object.keys(ROLES) as Role[]
const publishers = ['mqtt will', 'mqtt publish', 'amqp publish', 'http publish'] as const
const readers = ['mqtt delivery', 'mqtt retained', 'amqp bind'] as const

describe('the permission matrix', () => {
  const cells: [string, Role, () => unknown, unknown][] = []
  for (const role of roles) {
    const who = ROLES[role]
    for (const [topic, allowed] of Object.entries(WRITES)) {
      for (const action of publishers) {
        const expected = (allowed as readonly Role[]).includes(role)
        cells.push([
          `${action} ${topic}`,
          role,
          () => mayTopic(who, 'write', topic, CLIENT),
          expected
        ])
      }
    }
    for (const [topic, allowed] of Object.entries(READS)) {
      const expected = (allowed as readonly Role[]).includes(role)
      for (const action of readers) {
        cells.push([
          `${action} ${topic}`,
          role,
          () => mayTopic(who, 'read', topic, CLIENT),
          expected
        ])
      }
      const verdict = expected ? 'all' : 'none'
      cells.push([`mqtt subscribe ${topic}`, role, () => mayFilter(who, topic, CLIENT), verdict])
    }
    for (const [filter, verdicts] of Object.entries(FILTERS)) {
      const expected = verdicts[role] ?? 'none'
      cells.push([`mqtt subscribe ${filter}`, role, () => mayFilter(who, filter, CLIENT), expected])
    }
    for (const access of ['configure', 'write', 'read'] as const) {
      for (const [name, allowed] of Object.entries(RESOURCES[access])) {
        const ask = () => mayResource(who, access, name)
        cells.push([`amqp ${access} ${JSON.stringify(name)}`, role, ask, allowed.includes(role)])
      }
    }
  }

  it('has at least 200 cells', () => {
    expect(new Set(cells.map(([action, role]) => `${role}: ${action}`)).size).toBeGreaterThan(200)
  })

  it.each(cells)('%s as %s', (_action, _role, ask, expected) => {
    expect(ask()).toBe(expected)
    // The second answer comes from what was kept of the first.
    expect(ask()).toBe(expected)
  })
})

describe('topic rules', () => {
  it('deny before they allow, in whatever order they stand', () => {
    for (const rules of [
      ['deny read a/b', 'allow read a/+'],
      ['allow read a/+', 'deny readwrite a/b']
    ]) {
      const who = principal(rules)
      expect(mayTopic(who, 'read', 'a/b', CLIENT)).toBe(false)
      expect(mayTopic(who, 'read', 'a/c', CLIENT)).toBe(true)
      expect(mayTopic(who, 'write', 'a/c', CLIENT)).toBe(false)
    }
  })

  it('deny an administrator too, what they name', () => {
    const who = principal(['deny read $SYS/secret/#'], { tags: ['administrator'] })
    expect(mayTopic(who, 'read', '$SYS/secret/x', CLIENT)).toBe(false)
    expect(mayTopic(who, 'read', '$SYS/x', CLIENT)).toBe(true)
    expect(mayFilter(who, '$SYS/#', CLIENT)).toBe('some')
    expect(mayFilter(who, '$SYS/secret/+', CLIENT)).toBe('none')
    expect(mayFilter(who, '$SYS/x/+', CLIENT)).toBe('all')
  })

  it('let only administrators, monitors and whom a rule of its own allows it read $SYS', () => {
    const verdicts = (rules: string[], tags: string[] = []) => {
      const who = principal(rules, { tags, free: rules.length === 0 })
      return [mayTopic(who, 'read', '$SYS/x', CLIENT), mayFilter(who, '$SYS/#', CLIENT)]
    }
    expect(verdicts([])).toEqual([false, 'none'])
    expect(verdicts(['allow readwrite #'])).toEqual([false, 'none'])
    expect(verdicts([], ['monitoring'])).toEqual([true, 'all'])
    expect(verdicts(['allow read a'], ['monitoring'])).toEqual([true, 'all'])
    expect(verdicts(['deny read $SYS/#'], ['monitoring'])).toEqual([false, 'none'])
    expect(verdicts(['allow read $SYS/#'])).toEqual([true, 'all'])
    expect(verdicts(['allow read $SYS/x'])).toEqual([true, 'some'])
    expect(verdicts(['allow readwrite $other/#'])).toEqual([false, 'none'])
  })

  it('let nobody write to $SYS, nor use another topic that begins with $', () => {
    const who = principal(['allow readwrite $SYS/#', 'allow readwrite $other/#'], {
      tags: ['administrator']
    })
    expect(mayTopic(who, 'write', '$SYS/x', CLIENT)).toBe(false)
    expect(mayTopic(who, 'read', '$other/x', CLIENT)).toBe(false)
    expect(mayFilter(who, '$other/#', CLIENT)).toBe('none')
  })

  it('put in the user name and the client identifier, each as it is', () => {
    const who = principal(['allow write %u/%c', 'allow write x-%c-%u/#'], { name: 'ann' })
    expect(mayTopic(who, 'write', 'ann/c1', 'c1')).toBe(true)
    expect(mayTopic(who, 'write', 'ann/c1', 'c2')).toBe(false)
    expect(mayTopic(who, 'write', 'ann/c2', 'c2')).toBe(true)
    expect(mayTopic(who, 'write', 'x-c1-ann/y', 'c1')).toBe(true)
    // A name that looks like a place for another one is only a name.
    expect(mayTopic(principal(['allow write %u'], { name: '%c' }), 'write', 'c1', 'c1')).toBe(false)
    expect(mayTopic(principal(['allow write %u'], { name: '%c' }), 'write', '%c', 'c1')).toBe(true)
  })

  it.each(['+', '#', 'a/b', 'a/#', '', 'x+', '\0'])('are not widened by the name %j', name => {
    for (const topic of ['a', 'a/b', 'x', '+', '#', 'v', 'x+', 'v/a', `v/${name}`]) {
      const byUser = principal(['allow readwrite %u', 'allow readwrite v/%u/#'], { name })
      expect(mayTopic(byUser, 'read', topic, CLIENT)).toBe(false)
      const byClient = principal(['allow readwrite %c', 'allow readwrite v/%c'])
      expect(mayTopic(byClient, 'write', topic, name)).toBe(false)
    }
    expect(mayFilter(principal(['allow read %u/#'], { name }), '#', CLIENT)).toBe('none')
    expect(mayFilter(principal(['allow read %c/#']), '#', name)).toBe('none')
  })

  it('that make no sense allow nothing, and deny everything if they deny', () => {
    for (const filter of ['a/#/b', 'a+', '', '+%u']) {
      expect(isValidRuleFilter(filter)).toBe(false)
      const allows: TopicRule = { effect: 'allow', access: 'readwrite', filter }
      const denies: TopicRule = { effect: 'deny', access: 'read', filter }
      const who = new Principal('ann', [], '/', [], [allows], false)
      expect(mayTopic(who, 'read', 'a/b', CLIENT)).toBe(false)
      const denied = new Principal('ann', [], '/', [], [rule('allow readwrite #'), denies], false)
      expect(mayTopic(denied, 'read', 'x', CLIENT)).toBe(false)
      expect(mayTopic(denied, 'write', 'x', CLIENT)).toBe(true)
    }
    expect(isValidRuleFilter('dev/%u/x-%c/+/#')).toBe(true)
  })

  it('of one client are not taken for those of another, however many come', () => {
    const who = principal(['allow write c/%c'])
    for (let i = 0; i < 2_500; i++) {
      expect(mayTopic(who, 'write', `c/${i}`, `${i}`)).toBe(true)
      expect(mayTopic(who, 'write', `c/${i}`, `${i + 1}`)).toBe(false)
    }
  })
})

describe('a subscription that rules allow in part (B72)', () => {
  it('is granted with each message judged, refused only if nothing can come', () => {
    const who = principal(['allow read #', 'deny read secret/a'])
    for (const filter of ['#', '+/+', 'secret/+', 'secret/#', '+/a']) {
      expect(mayFilter(who, filter, CLIENT)).toBe('some')
    }
    expect(mayFilter(who, 'secret/a', CLIENT)).toBe('none')
    expect(mayFilter(who, 'secret/b/+', CLIENT)).toBe('all')
    expect(mayFilter(who, 'secret/a/+', CLIENT)).toBe('all')
    expect(mayFilter(who, 'secret/a/#', CLIENT)).toBe('some')
    const less = principal(['allow read a/+/b', 'deny read +/+/b'])
    expect(mayFilter(less, '#', CLIENT)).toBe('none')
    expect(mayFilter(principal(['allow read +/b', 'deny read a/#']), 'a/+', CLIENT)).toBe('none')
  })

  it('judges a binding key with # in the middle by the wider filter', () => {
    const who = principal(['allow read a/#'])
    expect(mayFilter(who, 'a/#/b', CLIENT)).toBe('all')
    expect(mayFilter(who, '#/b', CLIENT)).toBe('some')
    expect(mayFilter(who, 'b/#/c', CLIENT)).toBe('none')
    expect(mayFilter(who, 'x#/y/+', CLIENT)).toBe('none')
  })
})

describe('resource rules', () => {
  it('search, as RabbitMQ does, unless the pattern is anchored', () => {
    const who = principal([], { resources: resources('q', '^q$', '^(a|b)\\.') })
    expect(mayResource(who, 'configure', 'my-q-1')).toBe(true)
    expect(mayResource(who, 'write', 'my-q-1')).toBe(false)
    expect(mayResource(who, 'write', 'q')).toBe(true)
    expect(mayResource(who, 'read', 'b.x')).toBe(true)
    expect(mayResource(who, 'read', 'c.b.x')).toBe(false)
  })

  it('match nothing when empty, and know the default exchange as amq.default', () => {
    const who = principal([], { resources: resources('', '^amq\\.default$', '^$') })
    expect(mayResource(who, 'configure', '')).toBe(false)
    expect(mayResource(who, 'configure', 'x')).toBe(false)
    expect(mayResource(who, 'write', '')).toBe(true)
    expect(mayResource(who, 'read', '')).toBe(false)
  })

  it('of another vhost, or that are no expressions, allow nothing', () => {
    const other = { vhost: 'other', configure: '.*', write: '.*', read: '.*' }
    expect(mayResource(principal([], { resources: [other] }), 'read', 'q')).toBe(false)
    expect(compileResourcePattern('(')).toBeNull()
    const broken = principal([], { resources: resources('(', '.*', '(') })
    expect(mayResource(broken, 'configure', '(')).toBe(false)
    expect(mayResource(broken, 'write', '(')).toBe(true)
  })

  it('answer right beyond the names whose answers are kept', () => {
    const who = principal([], { resources: resources('^a', '', '') })
    for (let i = 0; i < 2_500; i++) {
      expect(mayResource(who, 'configure', `a${i}`)).toBe(true)
      expect(mayResource(who, 'configure', `b${i}`)).toBe(false)
    }
  })
})
