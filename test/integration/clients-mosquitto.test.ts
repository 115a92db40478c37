/** mosquitto_pub, mosquitto_sub and mosquitto_rr against the started program. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { isAvailable, requireProgram } from '../support/require.ts'
import { run, start } from '../support/run.ts'

let program: Program

beforeAll(async () => {
  program = await Program.start()
  // A subscriber that has got this is subscribed to its other topic too.
  if (isAvailable('mosquitto_pub')) {
    await run('mosquitto_pub', [...at(), '-t', 'tools/ready', '-m', 'ready', '-r', '-q', '1'])
  }
})

afterAll(async () => {
  await program.remove()
})

const at = () => ['-h', '127.0.0.1', '-p', String(program.port('mqtt'))]

/** Subscribes once and goes: the session is there then. */
async function subscribeAndGo(version: string, id: string, topic: string): Promise<void> {
  const flags = ['-V', version, '-i', id, '-c', '-q', '2', '-t', topic, '-E']
  if (version === 'mqttv5') flags.push('-x', '600')
  await run('mosquitto_sub', [...at(), ...flags])
}

requireProgram('mosquitto_sub')('the programs of mosquitto-clients', () => {
  describe.each(['mqttv31', 'mqttv311', 'mqttv5'])('as %s', version => {
    it.each(['0', '1', '2'])('carry a message at QoS %s', async qos => {
      const topic = `tools/${version}/${qos}`
      const format = ['-F', '%t %q %p']
      const sub = start('mosquitto_sub', [
        ...at(),
        '-V',
        version,
        '-q',
        qos,
        '-t',
        topic,
        '-t',
        'tools/ready',
        '-C',
        '2',
        ...format
      ])
      await sub.saw('tools/ready')
      await run('mosquitto_pub', [...at(), '-V', version, '-q', qos, '-t', topic, '-m', 'hello'])
      const { code, stdout } = await sub.result
      expect(code).toBe(0)
      expect(stdout).toContain(`${topic} ${qos} hello\n`)
    })

    it('keep a session while the program restarts', async () => {
      const topic = `tools/${version}/away`
      await subscribeAndGo(version, `tools-${version}`, topic)
      await run('mosquitto_pub', [...at(), '-q', '1', '-t', topic, '-m', 'one'])
      await run('mosquitto_pub', [...at(), '-q', '2', '-t', topic, '-m', 'two'])
      await program.stop()
      await program.restart()
      const flags = [
        '-V',
        version,
        '-i',
        `tools-${version}`,
        '-c',
        '-q',
        '2',
        '-t',
        topic,
        '-C',
        '2',
        '-W',
        '10'
      ]
      if (version === 'mqttv5') flags.push('-x', '600')
      expect(await run('mosquitto_sub', [...at(), ...flags])).toBe('one\ntwo\n')
    })
  })

  it('read a retained message, also after a kill', async () => {
    await run('mosquitto_pub', [...at(), '-q', '1', '-r', '-t', 'tools/kept', '-m', 'kept'])
    await program.kill()
    await program.restart()
    expect(await run('mosquitto_sub', [...at(), '-t', 'tools/kept', '-C', '1', '-W', '10'])).toBe(
      'kept\n'
    )
  })

  it('leave a will behind when they are killed', async () => {
    const watcher = start('mosquitto_sub', [
      ...at(),
      '-t',
      'tools/will',
      '-t',
      'tools/ready',
      '-v',
      '-C',
      '2'
    ])
    await watcher.saw('ready')
    const will = ['--will-topic', 'tools/will', '--will-payload', 'gone', '--will-qos', '1']
    const victim = start('mosquitto_sub', [...at(), '-t', 'tools/ready', ...will])
    await victim.saw('ready')
    victim.kill()
    expect((await watcher.result).stdout).toContain('tools/will gone')
  })

  it('send a large payload and many lines', async () => {
    const many = 2_000
    await subscribeAndGo('mqttv311', 'tools-many', 'tools/many')
    await run('mosquitto_pub', [
      ...at(),
      '-q',
      '1',
      '-t',
      'tools/many',
      '--repeat',
      String(many),
      '-m',
      'x'.repeat(500)
    ])
    const flags = [
      '-i',
      'tools-many',
      '-c',
      '-q',
      '1',
      '-t',
      'tools/many',
      '-C',
      String(many),
      '-W',
      '20'
    ]
    expect((await run('mosquitto_sub', [...at(), ...flags])).length).toBe(many * 501)
  })
})

requireProgram('mosquitto_rr')('mosquitto_rr', () => {
  it('gets the answer to its request', async () => {
    const topics = ['-t', 'rr/ask', '-t', 'tools/ready', '-C', '2']
    const worker = start('mosquitto_sub', [...at(), '-V', 'mqttv5', ...topics, '-F', '%p %R'])
    await worker.saw('ready')
    const ask = ['-t', 'rr/ask', '-e', 'rr/answer', '-m', 'question', '-W', '15']
    const asking = start('mosquitto_rr', [...at(), '-V', 'mqttv5', ...ask])
    expect((await worker.result).stdout).toContain('question rr/answer')
    await run('mosquitto_pub', [
      ...at(),
      '-V',
      'mqttv5',
      '-q',
      '1',
      '-t',
      'rr/answer',
      '-m',
      'reply'
    ])
    expect((await asking.result).stdout).toBe('reply\n')
  })
})
