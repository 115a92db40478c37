/** `motemq sub` beside mosquitto_sub: the same flags, the same broker, the same messages, the same output. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Outcome, PROGRAMS, type ProgramName, runCli } from '../support/cli-pair.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { requireProgram, requiresAll } from '../support/require.ts'
import { run } from '../support/run.ts'

let program: Program
let folder: string

beforeAll(async () => {
  program = await Program.start()
  folder = mkdtempSync(join(tmpdir(), 'motemq-cli-'))
  mkdirSync(join(folder, 'x'))
  writeFileSync(join(folder, 'mosquitto_sub'), '# mine\n-F from-file:%t:%p\n-q 2\n')
})

afterAll(async () => {
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

const at = () => ['-h', '127.0.0.1', '-p', String(program.port('mqtt'))]
const pub = (...flags: string[]) => run('mosquitto_pub', [...at(), '-q', '1', ...flags])

const subscriptions = async () => (await readMetrics(program)).sum('subscriptions')

async function until(wanted: number): Promise<void> {
  while ((await subscriptions()) < wanted) await new Promise(resolve => setTimeout(resolve, 10))
}

interface Case {
  readonly flags: string[]
  /** Subscriptions that each of the two makes; then `send` runs. */
  readonly filters?: number
  readonly send?: () => Promise<unknown>
  readonly env?: Readonly<Record<string, string>>
  /** Times differ: what is compared of a line. */
  readonly shown?: (stdout: string) => string
}

async function both({ flags, filters = 1, send, env = {} }: Case): Promise<[Outcome, Outcome]> {
  const options = { env }
  const before = await subscriptions()
  const pair = Promise.all([
    runCli('mosquitto', 'sub', [...at(), ...flags], options),
    runCli('motemq', 'sub', [...at(), ...flags], options)
  ])
  if (send !== undefined) {
    await Promise.race([pair, until(before + 2 * filters)])
    await send()
  }
  return await pair
}

/** In order of lines: a QoS 2 message is printed when it comes, by mosquitto_sub when its PUBREL comes. */
const withoutTimes = (text: string) =>
  text
    .split('\n')
    .sort()
    .join('\n')
    .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?/g, 'TIME')
    .replaceAll(/\d{10}\.\d{9}/g, 'UNIX')

/** Every kind of message: all properties, none, retained later, binary, empty, JSON, long topics. */
async function sendAll(): Promise<void> {
  const all = [
    ...['content-type', 'text/x', 'response-topic', 'r/t', 'correlation-data', 'cd'],
    ...['message-expiry-interval', '600', 'payload-format-indicator', '1']
  ]
  const properties: string[] = []
  for (let i = 0; i < all.length; i += 2) properties.push('-D', 'publish', all[i]!, all[i + 1]!)
  const pairs = [
    '-D',
    'publish',
    'user-property',
    'k',
    'v',
    '-D',
    'publish',
    'user-property',
    'k',
    'w"'
  ]
  await pub('-V', '5', '-t', 'm/äb', '-m', 'hällo', ...properties, ...pairs)
  await pub('-t', 'm/plain', '-m', 'plain')
  await pub(
    '-t',
    'm/json',
    '-m',
    '{"b":27.0,"a":[1,{"c":null},[]],"a":"\\u00e4\\n","e":{},"f":1e-7,"g":12345678901234567890,"h":true}'
  )
  await pub('-t', 'm/quotes', '-m', 'a"b\\c\td\u0001')
  await pub('-t', 'm/long/topic/with/levels', '-m', 'x'.repeat(300))
  await pub('-t', 'm/two', '-q', '2', '-m', '[1.5,-3,1e15,123456789012,0.1]')
  await pub('-t', 'm/none', '-n')
}

requireProgram('mosquitto_sub')('motemq sub beside mosquitto_sub', () => {
  const formats: [name: string, format: string][] = [
    ['each parameter', '%%|%A|%C|%D|%E|%F|%P|%R|%S|%q|%r|%m|%l|%t|%p|%x|%X'],
    ['widths of topics', '%12t|%-12t|%.3t|%012t|%-.3t|%12.2t|%40t|'],
    ['widths of lengths', '%8l|%-8l|%08l|%-08l|%1l'],
    ['widths of identifiers', '%8q|%08m|%-8m|%8m|%8r'],
    // A payload longer than its width is cut by version 2.0.11, and half of a shorter one in hex is lost.
    ['payloads', '%x|%.4x|%.2X|%.3p|%.x'],
    ['widths of texts', '%8C|%.2C|%-8C|%8R|%.1R|%-8R|%08C|'],
    ['widths of numbers', '%8E|%08E|%-8E|%8F|%08F|%8A|%08A|%8S|%08S|%-5A|'],
    ['no widths', '%30D|%30P|%30r|%5%|'],
    ['escapes', '@@|\\\\|\\a\\e\\n\\r\\t\\v\\0|@%'],
    [
      'parts of the day',
      '@Y @y @C @m @d @e @j @D @F @x @a @A @b @B @h @u @w @U @W @V @G @g @H @I @k @l @p @P @z @Z'
    ],
    ['what is no time', '@n @t @J @v @i |'],
    ['JSON', '%j'],
    ['JSON in JSON', '%J'],
    ['times', '%I|%40I|%-40I|%U'],
    ['words around', 'topic=%t payload=%p\\n--']
  ]
  // The quick tier takes the version that has most to show.
  for (const version of requiresAll ? ['31', '311', '5'] : ['5']) {
    // Older versions have fewer properties, and nothing else that a format shows.
    const shown = version === '5' ? formats : formats.filter(([name]) => /each|JSON/.test(name))
    it.each(shown)(`prints %s in version ${version}`, async (_, format) => {
      const flags = ['-V', version, '-q', '2', '-t', 'm/#', '-C', '7', '-F', format]
      const [theirs, ours] = await both({ flags, send: sendAll })
      expect(withoutTimes(ours.stdout)).toBe(withoutTimes(theirs.stdout))
      expect(ours.code).toBe(theirs.code)
      expect(ours.stderr).toBe(theirs.stderr)
      expect(theirs.stdout.length).toBeGreaterThan(20)
    })
  }

  const pretty: [string, string][] = [
    ['JSON', '%j'],
    ['JSON in JSON', '%J']
  ]
  it.each(pretty)('prints pretty %s', async (_, format) => {
    const flags = ['-V', '5', '-q', '2', '-t', 'm/#', '-C', '7', '-F', format, '--pretty']
    const [theirs, ours] = await both({ flags, send: sendAll })
    expect(withoutTimes(ours.stdout)).toBe(withoutTimes(theirs.stdout))
  })

  const plain: [name: string, flags: string[], filters?: number][] = [
    ['payloads alone', ['-C', '7']],
    ['QoS 0', ['-C', '7', '-q', '0', '-F', '%q %t']],
    ['QoS 1', ['-C', '7', '-q', '1', '-F', '%q %t']],
    ['topics and payloads', ['-v', '-C', '7']],
    ['topics and payloads, no newlines', ['-v', '-N', '-C', '7']],
    ['no newlines', ['-N', '-C', '7']],
    ['a format, no newlines', ['-N', '-F', '%l;', '-C', '7']],
    ['a format and -v', ['-v', '-F', '%l;', '-C', '7']],
    ['all but some', ['-v', '-T', 'm/plain', '-T', 'm/long/#', '-C', '5']],
    ['all but those below one', ['-v', '-T', 'm/+', '-C', '1']],
    ['the first three', ['-C', '3']],
    ['several filters', ['-t', 'other/#', '-v', '-C', '7'], 2],
    ['an overlapping filter', ['-t', 'm/+', '-v', '-C', '7'], 2],
    ['what comes in time', ['-W', '2', '-v']],
    ['the first of them before the time is over', ['-W', '10', '-C', '1', '-v']],
    [
      'a subscription identifier',
      ['-V', '5', '-D', 'subscribe', 'subscription-identifier', '7', '-F', '%S %t', '-C', '7']
    ],
    [
      'properties of the connection',
      [
        '-V',
        '5',
        '-D',
        'connect',
        'user-property',
        'a',
        'b',
        '-D',
        'connect',
        'receive-maximum',
        '1',
        '-q',
        '2',
        '-v',
        '-C',
        '7'
      ]
    ],
    ['all kept as published', ['-V', '5', '--retain-as-published', '-F', '%r %t', '-C', '7']],
    [
      'a will nobody sees',
      ['--will-topic', 'w', '--will-payload', 'x', '--will-qos', '1', '--will-retain', '-C', '7']
    ],
    ['what is quiet', ['--quiet', '-C', '7', '-F', '%J']],
    [
      'with options that change nothing',
      ['--nodelay', '-k', '10', '-M', '5', '-A', '127.0.0.1', '-C', '7']
    ],
    ['a shared subscription', ['-t', '$share/cli/nothing/#', '-v', '-C', '7'], 2]
  ]
  it.each(plain)('prints %s', async (_, flags, filters = 1) => {
    const words = ['-t', 'm/#', ...flags]
    const [theirs, ours] = await both({ flags: words, filters, send: sendAll })
    expect(withoutTimes(ours.stdout)).toBe(withoutTimes(theirs.stdout))
    expect(ours.code).toBe(theirs.code)
    expect(ours.stderr).toBe(theirs.stderr)
  })

  it('says what it does with -d', async () => {
    const flags = ['-t', 'm/#', '-q', '2', '-d', '-C', '7']
    const named = (outcome: Outcome) =>
      outcome.stdout.replaceAll(/Client \S+ /g, 'Client X ').replaceAll('Mid: ', 'm')
    const [theirs, ours] = await both({ flags, send: sendAll })
    // When its PUBREL comes, and what a message is called while it is open, is not theirs to decide.
    const lines = (outcome: Outcome) =>
      named(outcome)
        .split('\n')
        .filter(line => !/PUBREL|PUBCOMP/.test(line))
        .sort()
    expect(lines(ours)).toEqual(lines(theirs))
  })

  it('prints with the defaults of a file, and its own flags before them', async () => {
    const env = { XDG_CONFIG_HOME: folder }
    const flags = ['-t', 'm/#', '-C', '7']
    const sorted = (outcome: Outcome) => ({ ...outcome, stdout: withoutTimes(outcome.stdout) })
    const first = await both({ flags, send: sendAll, env })
    expect(sorted(first[1])).toEqual(sorted(first[0]))
    expect(first[0].stdout).toContain('from-file:m/plain:plain')
    const second = await both({ flags: [...flags, '-F', '%q %p'], send: sendAll, env })
    expect(sorted(second[1])).toEqual(sorted(second[0]))
  })

  it('subscribes to a session and takes it up', async () => {
    const session = async (tool: ProgramName, version: string): Promise<Outcome[]> => {
      const topic = `s/${version}/${tool}`
      const known = ['-V', version, '-c', '-i', `cli-${version}-${tool}`, '-q', '1', '-t', topic]
      const flags = [...at(), ...known]
      const opened = await runCli(tool, 'sub', [...flags, '-E'])
      await pub('-t', topic, '-m', 'one')
      await pub('-t', topic, '-m', 'two')
      const taken = await runCli(tool, 'sub', [...flags, '-C', '2'])
      return [opened, taken, await runCli(tool, 'sub', [...flags, '-W', '1', '-U', topic])]
    }
    const check = async (version: string) => {
      const [theirs, ours] = await Promise.all(PROGRAMS.map(tool => session(tool, version)))
      expect(ours).toEqual(theirs)
      expect(theirs!.map(({ stdout }) => stdout)).toEqual(['', 'one\ntwo\n', ''])
      expect(theirs!.map(({ code }) => code)).toEqual([0, 0, 27])
    }
    await Promise.all(['311', '5'].map(check))
  })

  const retained: [name: string, flags: string[]][] = [
    ['all', []],
    ['with -R nothing old', ['-R']],
    ['with --retained-only nothing new', ['--retained-only']],
    ['and removes them', ['--remove-retained']],
    ['and removes them unseen', ['-R', '--remove-retained']],
    ['and keeps what is filtered', ['--remove-retained', '-T', 'LEVEL/2']]
  ]
  // Each with topics of its own: what takes long is that nothing more comes.
  it.concurrent.each(retained)('shows retained messages: %s', async (name, flags) => {
    const results = PROGRAMS.map(async tool => {
      const level = `k/${name.replaceAll(' ', '-')}/${tool}`
      const filter = ['-t', `${level}/#`, '-W', '1']
      for (let i = 0; i < 4; i++) await pub('-r', '-t', `${level}/${i}`, '-m', `value ${i}`)
      const own = flags.map(flag => flag.replace('LEVEL', level))
      const outcome = await runCli(tool, 'sub', [...at(), '-F', '%r %p', ...filter, ...own])
      const left = await runCli('mosquitto', 'sub', [...at(), '-v', ...filter])
      const sorted = (text: string) => text.split('\n').sort().join('\n').replaceAll(level, '')
      await run('mosquitto_sub', [...at(), ...filter, '--remove-retained']).catch(() => undefined)
      return [{ ...outcome, stdout: sorted(outcome.stdout) }, sorted(left.stdout)]
    })
    const [theirs, ours] = await Promise.all(results)
    expect(ours).toEqual(theirs)
  })

  const mistakes: [name: string, flags: string[]][] = [
    ['no topic', []],
    ['an unknown flag', ['-t', 'a', '-Z']],
    ['a flag of pub', ['-t', 'a', '-m', 'x']],
    ['a bad filter', ['-t', 'a/#/b']],
    ['a bad filter to leave', ['-t', 'a', '-U', 'a/#/b']],
    ['a bad filter to filter', ['-t', 'a', '-T', 'a/#/b']],
    ['a count of 0', ['-t', 'a', '-C', '0']],
    ['a time of 0', ['-t', 'a', '-W', '0']],
    ['an unknown parameter', ['-t', 'a', '-F', '%y']],
    ['half a parameter', ['-t', 'a', '-F', 'x%']],
    ['an unknown escape', ['-t', 'a', '-F', '\\q']],
    ['half an escape', ['-t', 'a', '-F', 'x\\']],
    ['half a time', ['-t', 'a', '-F', 'x@']],
    ['two flags of alignment', ['-t', 'a', '-F', '%--5t']],
    ['a session without an id', ['-t', 'a', '-c']],
    ['an infinite session without an id', ['-t', 'a', '-V', '5', '-x', '-1']],
    ['an expiry that is no number', ['-t', 'a', '-x', 'abc']],
    ['-R with --retained-only', ['-t', 'a', '-R', '--retained-only']],
    ['a chance of 0', ['-t', 'a', '--random-filter', '0']],
    ['a flag without its value', ['-t', 'a', '-F']],
    ['a port that there is not', ['-t', 'a', '-p', '1']],
    ['a host that there is not', ['-t', 'a', '-h', 'nosuch.invalid']],
    ['a property of another packet', ['-t', 'a', '-D', 'subscribe', 'topic-alias', '1']],
    ['a property nobody may set', ['-t', 'a', '-D', 'puback', 'user-property', 'a', 'b']],
    ['a will without its topic', ['-t', 'a', '--will-payload', 'x']],
    ['a certificate without its key', ['-t', 'a', '--cert', 'x']],
    ['authorities that are not there', ['-t', 'a', '--cafile', '/nonexistent']],
    ['a key without an identity', ['-t', 'a', '--psk', 'ab']]
  ]
  it.each(mistakes)('fails as it does: %s', async (_, flags) => {
    const [theirs, ours] = await both({ flags: [...flags, '-W', '5'] })
    expect(theirs.code).not.toBe(0)
    expect(ours.code).toBe(theirs.code)
    expect(ours.stdout).toBe(theirs.stdout)
    expect(ours.stderr).not.toBe('')
  })
})
