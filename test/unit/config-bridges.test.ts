/** `bridges` of the config file: what is read, and a line for each mistake. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadOptions } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/mistake.ts'
import { printOptions } from '../../src/config/print.ts'
import { deadNameOf, queueNameOf } from '../../src/bridge/settings.ts'

let directory = ''

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'motemq-bridges-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

function load(yaml: string) {
  writeFileSync(join(directory, 'motemq.yaml'), yaml)
  return loadOptions({ config: null, flags: new Map(), environment: {}, directory })
}

async function mistakes(yaml: string): Promise<readonly string[]> {
  try {
    await load(yaml)
  } catch (error) {
    if (error instanceof ConfigError) return error.mistakes
    throw error
  }
  return []
}

const good = 'bridges:\n- name: cloud\n  url: amqp://ann@far/v\n  topics: ["s/#"]\n'

describe('bridges of a config file', () => {
  it('are read with their defaults, and paths seen from the directory', async () => {
    const { options } = await load(
      `${good}  passwordFile: secret\n  tls: { ca: ca.pem }\n  limits: { messages: 5, ageMs: 1 d, overflow: refuse }\n  window: 7\n`
    )
    const bridge = options.bridges[0]!
    expect(bridge).toMatchObject({
      name: 'cloud',
      url: 'amqp://ann@far/v',
      vhost: '/',
      topics: ['s/#'],
      passwordFile: join(directory, 'secret'),
      tls: { ca: join(directory, 'ca.pem'), cert: '', verify: true },
      limits: { messages: 5, bytes: 0, ageMs: 86_400_000, overflow: 'refuse' },
      window: 7,
      stallMs: 30_000
    })
    expect(queueNameOf(bridge)).toBe('bridge.cloud')
    expect(deadNameOf(bridge)).toBe('bridge.cloud.dead')
  })

  it('show no password', async () => {
    const loaded = await load(good.replace('ann@', 'ann:s3cret@'))
    expect(loaded.options.bridges[0]!.password).toBe('s3cret')
    expect(loaded.options.bridges[0]!.url).toBe('amqp://ann@far/v')
    expect(printOptions(loaded)).not.toContain('s3cret')
    expect(printOptions(loaded)).toContain('(hidden)')
  })

  it.each([
    [
      '  map: [{ filter: "s/+", key: "{2}" }]',
      'nothing fills {2}; the filter "s/+" has one wildcard'
    ],
    ['  map: [{ filter: s, key: "{1}" }]', 'nothing fills {1}; the filter "s" has no wildcards'],
    ['  map: [{ filter: s, key: "{site}" }]', 'nothing fills {site}; known are {topic}'],
    ['  map: [{ filter: s, key: "{" }]', 'a "{" is not closed'],
    ['  map: [{ key: k }]', 'this rule has no filter'],
    ['  windows: 3', 'the key "windows" is not known; did you mean "window"?'],
    ['  window: 0', 'window: 0 is less than 1'],
    ['  queue: other', 'either topics and bindings, or a queue'],
    ['  retryMinMs: 9000', 'retryMinMs (9000) is more than retryMaxMs (8000)'],
    ['  tls: { cert: a.pem }', 'cert and key go together'],
    ['  limits: { overflow: block }', '"block" is not one of drop-oldest, refuse']
  ])('tell the mistake in %s with its line', async (line, sentence) => {
    const found = await mistakes(`${good}${line}\n`)
    expect(found).toHaveLength(1)
    expect(found[0]).toMatch(/^motemq\.yaml:[25]: /)
    expect(found[0]).toContain(sentence)
  })

  it.each([
    ['url: nats://x', 'a bridge to "nats:" is not known'],
    ['url: "amqp://a:hunter2@[x/"', 'url is no URL'],
    ['url: amqp://x/a/b', 'url has more than user, host, port and vhost']
  ])('refuse %s, and show no part of a password', async (url, sentence) => {
    const found = await mistakes(good.replace('url: amqp://ann@far/v', url))
    expect(found.join()).toContain(`motemq.yaml:3: ${sentence}`)
    expect(found.join()).not.toContain('hunter2')
  })

  it('refuse a name that stands there twice, and one without what it reads', async () => {
    const found = await mistakes(`${good}- { name: cloud, url: "amqp://x" }\n`)
    expect(found).toEqual([
      'motemq.yaml:5: this bridge carries nothing: it has neither topics, bindings nor queue',
      'motemq.yaml:5: bridge "cloud" stands here again, first in motemq.yaml:2'
    ])
  })
})
