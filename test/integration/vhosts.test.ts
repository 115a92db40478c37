import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Finished, MotemqProcess, runMotemq } from '../support/motemq-process.ts'

let cwd = ''
let broker: MotemqProcess | null = null

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-vhosts-'))
})
afterEach(async () => {
  await broker?.stop('SIGKILL')
  broker = null
  rmSync(cwd, { recursive: true, force: true })
})

function motemq(...words: string[]): Promise<Finished> {
  return runMotemq([...words, '--data', 'd'], { cwd })
}

for (const isRunning of [false, true]) {
  describe(`motemq vhost and permission, with the broker ${isRunning ? 'running' : 'stopped'}`, () => {
    it('add, list, set, clear and delete', async () => {
      if (isRunning) {
        broker = new MotemqProcess(['--data', 'd', '--listen', 'mqtt://127.0.0.1:0'], { cwd })
        await broker.ready()
      }
      const added = await motemq('vhost', 'add', 'b', '--description', 'field')
      expect(added).toMatchObject({ code: 0, stdout: 'virtual host b is there\n', stderr: '' })
      expect((await motemq('vhost', 'list')).stdout).toBe(
        '/  0 queues  0 messages  0 sessions  0 retained\n' +
          'b  0 queues  0 messages  0 sessions  0 retained  field\n'
      )
      await motemq('users', 'add', 'ann', '--generate')
      expect(await motemq('permission', 'set', '-p', 'b', 'ann', '^x', '.*', '')).toMatchObject({
        code: 0,
        stdout: 'permissions of ann in b set\n'
      })
      expect((await motemq('permission', 'list')).stdout).toBe(
        'ann  b  configure "^x"  write ".*"  read ""\n'
      )
      const last = await motemq('permission', 'clear', '-p', 'b', 'ann')
      expect(last).toMatchObject({ code: 1, stdout: '' })
      expect(last.stderr).toContain('the last permission of all')
      expect((await motemq('permission', 'set', 'ann', '(', '', '')).code).toBe(1)
      expect((await motemq('vhost', 'delete', 'b')).stdout).toBe('virtual host b deleted\n')
      const gone = await motemq('vhost', 'delete', 'b')
      expect(gone).toMatchObject({ code: 1, stderr: "motemq: there is no virtual host 'b'\n" })
    })
  })
}
