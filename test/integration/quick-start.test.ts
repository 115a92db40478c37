/** The README's commands, as they stand there, in a fresh copy: only the ports are others. */
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Checkout, type ShellRun } from '../support/checkout.ts'
import { requireProgram } from '../support/require.ts'

const README = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8')
const INSTALL = 'npm install && '

interface CodeBlock {
  readonly language: string
  readonly text: string
}

/** The code blocks of one section, in order. */
function blocksOf(heading: string): CodeBlock[] {
  const section = README.split(/^## /m).find(part => part.startsWith(`${heading}\n`)) ?? ''
  const found = section.matchAll(/^```(\w+)\n(.*?)^```$/gms)
  return [...found].map(([, language = '', text = '']) => ({ language, text }))
}

let clone: Checkout
let ports: ReadonlyMap<string, number>
let listen = ''

/** With the ports that are free here. */
function withPorts(text: string): string {
  return text.replaceAll(/\b(1883|5672)\b/g, port => String(ports.get(port)))
}

function start(block: CodeBlock): ShellRun {
  return clone.sh(withPorts(block.text).replace(INSTALL, ''), { MOTEMQ_LISTEN: listen })
}

beforeAll(async () => {
  clone = new Checkout()
  const servers = [await listenAnywhere(), await listenAnywhere()]
  const free = servers.map(server => (server.address() as { port: number }).port)
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  ports = new Map([
    ['1883', free[0]!],
    ['5672', free[1]!]
  ])
  listen = `mqtt://localhost:${free[0]} amqp://localhost:${free[1]}`
})
afterAll(() => clone.remove())

requireProgram('mosquitto_pub')('the README', () => {
  it('starts with the two commands that it promises', () => {
    const [commands = ''] = README.split(/^## /m)
    expect(commands).toContain('\nnpm install && npm start ')
    expect(commands).toContain('\nnpm install && npm test ')
  })

  describe('quick start', () => {
    const blocks = blocksOf('Quick start')
    const [config, first, device, plug, again, backend, expected] = blocks
    let broker: ShellRun

    it('is a config, a start, a device, a kill, a start, a backend and what it prints', () => {
      expect(blocks.map(({ language }) => language)).toEqual([...Array(6).fill('sh'), 'text'])
      expect(first!.text.trim()).toBe(`${INSTALL}${again!.text.trim()}`)
      expect(plug!.text).toContain('kill -9')
    })

    it('keeps over a kill -9 what devices were told is safe, and gives it to a backend', async () => {
      await start(config!).done()
      const killed = start(first!)
      await killed.saw('"ready"')
      await start(device!).done()
      await start(plug!).done()
      expect(await killed.exit).not.toBe(0)
      broker = start(again!)
      await broker.saw('"ready"')
      const consumer = start(backend!)
      await consumer.saw(expected!.text.trimEnd().split('\n').at(-1)!)
      expect(consumer.stdout).toBe(expected!.text)
    })

    it('opens to the network with a user, as the next section says', async () => {
      const [open, publish] = blocksOf('Open it to the network')
      broker.child.kill('SIGTERM')
      await broker.exit
      const opened = start(open!)
      await opened.saw('"ready"')
      const password = /^password: (\S+)$/m.exec(opened.stdout)?.[1] ?? ''
      expect(password).not.toBe('')
      const words = publish!.text.replace('gateway.local', '127.0.0.1')
      expect(words).toContain("'the password'")
      const sent = { ...publish!, text: words.replace('the password', password) }
      await start(sent).done()
      expect(await start({ ...publish!, text: words }).exit).not.toBe(0)
      const anonymous = words.replace(/-u \S+ -P '[^']*'/, '')
      expect(await start({ ...publish!, text: anonymous }).exit).not.toBe(0)
    })
  })
})

async function listenAnywhere(): Promise<Server> {
  const server = createServer()
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return server
}
