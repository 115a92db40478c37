/** `$SYS` of the started program, read by mosquitto_sub, beside Mosquitto's own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { Program } from '../support/program.ts'
import { findProgram, requireProgram } from '../support/require.ts'
import { start } from '../support/run.ts'

/** What mosquitto_sub gets below `$SYS` within some seconds, by topic; the last value of each. */
async function sysOf(port: number, seconds: number): Promise<Map<string, string>> {
  const flags = ['-t', '$SYS/#', '-W', String(seconds), '-F', '%t\t%p']
  const { stdout } = await start('mosquitto_sub', ['-p', String(port), ...flags]).result
  const found = new Map<string, string>()
  for (const line of stdout.split('\n')) {
    const [topic, payload] = line.split('\t')
    if (topic !== undefined && payload !== undefined) found.set(topic, payload)
  }
  return found
}

/** Waits until Mosquitto answers. */
async function waitFor(port: number): Promise<void> {
  const id = ['-p', String(port), '-t', 'x', '-n', '-q', '1']
  for (let attempt = 0; attempt < 100; attempt++) {
    if ((await start('mosquitto_pub', id).result).code === 0) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error('mosquitto does not answer')
}

requireProgram('mosquitto')('$SYS beside Mosquitto', () => {
  let program: Program
  let mosquitto: ChildProcess
  let folder: string
  let port: number

  beforeAll(async () => {
    program = await Program.start({ flags: ['--sys-interval-seconds', '1'] })
    folder = mkdtempSync(join(tmpdir(), 'motemq-mosquitto-'))
    port = await freePort()
    const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'user root']
    writeFileSync(join(folder, 'conf'), [...lines, 'sys_interval 1', ''].join('\n'))
    mosquitto = spawn(findProgram('mosquitto')!, ['-c', join(folder, 'conf')], { stdio: 'ignore' })
    await waitFor(port)
  })

  afterAll(async () => {
    mosquitto.kill('SIGKILL')
    rmSync(folder, { recursive: true })
    await program.remove()
  })

  describe('has', () => {
    it('every topic that Mosquitto has, with values of the same form', async () => {
      const [theirs, ours] = await Promise.all([sysOf(port, 3), sysOf(program.port('mqtt'), 3)])
      expect(theirs.size).toBeGreaterThan(40)
      for (const [topic, payload] of theirs) {
        const own = ours.get(topic)
        expect(own, topic).toBeDefined()
        expect(formOf(own!), topic).toBe(formOf(payload))
      }
      expect(ours.get('$SYS/broker/version')).toMatch(/^motemq version \d+\.\d+\.\d+/)
      expect(Number.parseInt(ours.get('$SYS/broker/uptime')!, 10)).toBeGreaterThan(0)
    })

    it('loads that rise with what is published', async () => {
      const flags = ['-p', String(program.port('mqtt')), '-t', 'load', '-m', 'x']
      await start('mosquitto_pub', [...flags, '--repeat', '50']).result
      const ours = await sysOf(program.port('mqtt'), 3)
      expect(Number(ours.get('$SYS/broker/publish/messages/received'))).toBe(50)
      expect(Number(ours.get('$SYS/broker/load/publish/received/1min'))).toBeGreaterThan(10)
    })
  })
})

/** `3.21 seconds` and `4.5 seconds` have one form. */
function formOf(payload: string): string {
  return payload.replace(/^mosquitto/, 'motemq').replaceAll(/\d+/g, '0')
}
