import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import mqtt from 'mqtt'
import { expect, test } from 'vitest'
import { createPersistence } from '../../src/persistence/index.ts'
import { start } from '../support/run.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const page = readFileSync(join(ROOT, 'docs/persistence.md'), 'utf8')
const example = /```js\n([\s\S]*?)```/.exec(page)?.[1] ?? ''

async function runExample(folder: string, use: (port: number) => Promise<void>): Promise<void> {
  const code = example
    .replace("'./aedes-data'", JSON.stringify(folder))
    .replace('server.listen(1883)', 'server.listen(0, () => console.log(server.address().port))')
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  try {
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    await use(Number(String(line)))
    const closed = once(child, 'close')
    child.kill('SIGTERM')
    expect(await closed).toEqual([0, null])
  } finally {
    child.kill('SIGKILL')
  }
}

test('a second instance is refused the folder, in the same process and in another', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'motemq-locked-'))
  const first = createPersistence({ folder })
  try {
    await first.setup({ id: 'first', counter: 0 })
    await expect(
      createPersistence({ folder }).setup({ id: 'b', counter: 0 })
    ).rejects.toMatchObject({
      code: 'locked',
      message: expect.stringContaining(folder)
    })
    const code = `import { createPersistence } from 'motemq/persistence'
      const persistence = createPersistence({ folder: ${JSON.stringify(folder)} })
      await persistence.setup({ id: 'c', counter: 0 }).catch(error => console.log(error.code))`
    const { stdout } = await start(process.execPath, ['--input-type=module', '-e', code]).result
    expect(stdout.trim()).toBe('locked')
  } finally {
    await first.close()
    rmSync(folder, { recursive: true, force: true })
  }
})

test('the example of docs/persistence.md runs, stops, and has what it kept when it runs again', async () => {
  expect(example).toContain('createPersistence')
  const folder = mkdtempSync(join(tmpdir(), 'motemq-example-'))
  try {
    await runExample(folder, async port => {
      const client = await mqtt.connectAsync({ port, host: '127.0.0.1' })
      await client.publishAsync('kept', 'value', { qos: 2, retain: true })
      await client.endAsync()
    })
    await runExample(folder, async port => {
      const client = await mqtt.connectAsync({ port, host: '127.0.0.1' })
      const payload = new Promise<string>(resolve => {
        client.on('message', (_topic, bytes) => resolve(String(bytes)))
      })
      await client.subscribeAsync('kept', { qos: 1 })
      expect(await payload).toBe('value')
      await client.endAsync()
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
