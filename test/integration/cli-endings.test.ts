/** How commands end when their reader, their terminal or their patience is gone, and what they refuse to send. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runMotemq } from '../support/motemq-process.ts'
import { Program } from '../support/program.ts'

const bin = fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))
let program: Program
let folder: string

beforeAll(async () => {
  program = await Program.start()
  folder = mkdtempSync(join(tmpdir(), 'motemq-endings-'))
})

afterAll(async () => {
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

function run(words: readonly string[]): ChildProcessByStdio<null, Readable, Readable> {
  // What is set for the tests is no option of the program, and it says so.
  const env = Object.entries(process.env).filter(([name]) => !name.startsWith('MOTEMQ_'))
  return spawn(process.execPath, [bin, ...words], {
    cwd: folder,
    env: { ...Object.fromEntries(env), TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe']
  })
}

/** Its first piece of output. */
function saying(child: { stdout: Readable }): Promise<string> {
  return new Promise(resolve => child.stdout.once('data', chunk => resolve(String(chunk))))
}

function ending(child: { stderr: Readable; once: (...args: never) => unknown }) {
  let stderr = ''
  child.stderr.on('data', chunk => {
    stderr += String(chunk)
  })
  return new Promise<{ code: number | null; stderr: string }>(resolve => {
    ;(child as ReturnType<typeof run>).once('close', code => resolve({ code, stderr }))
  })
}

function isListening(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  return new Promise(resolve => {
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

describe('motemq demo with a broker of its own', () => {
  it.each([
    ['its reader is gone', null],
    ['it is told to end before it publishes', 'SIGTERM'],
    ['its terminal is closed', 'SIGHUP']
  ] as const)('leaves no broker and no folder behind when %s', async (_when, signal) => {
    const child = run(['demo', '--seconds', '600', '--url', 'mqtt://127.0.0.1:1'])
    const end = ending(child)
    const port = Number(/runs at mqtt:\/\/127\.0\.0\.1:(\d+)/.exec(await saying(child))?.[1])
    expect(await isListening(port)).toBe(true)
    child.stdout.destroy()
    if (signal !== null) child.kill(signal)
    expect((await end).stderr).toBe('')
    while (await isListening(port)) await sleep(20)
    expect(readdirSync(folder).filter(name => name.startsWith('motemq-demo-'))).toEqual([])
  })
})

describe('a command whose reader is gone', () => {
  it('sub ends without a word', async () => {
    const flags = ['-h', '127.0.0.1', '-p', String(program.port('mqtt'))]
    const child = run(['sub', ...flags, '-t', 'stream'])
    const end = ending(child)
    child.stdout.destroy()
    const often = ['--repeat', '100000', '--repeat-delay', '0.05']
    const publisher = run(['pub', ...flags, '-t', 'stream', '-m', 'one', ...often])
    const outcome = await end
    publisher.kill('SIGKILL')
    expect(outcome).toEqual({ code: 0, stderr: '' })
  })

  it('config print ends without a word', async () => {
    const child = run(['config', 'print', '--data', join(folder, 'data')])
    const end = ending(child)
    child.stdout.destroy()
    expect(await end).toEqual({ code: 0, stderr: '' })
  })
})

describe('motemq pub', () => {
  it('does not send what no packet can hold, and says so', async () => {
    const file = join(folder, 'large')
    writeFileSync(file, '')
    truncateSync(file, 268_435_456)
    const flags = ['-h', '127.0.0.1', '-p', String(program.port('mqtt')), '-t', 'large', '-f', file]
    const { code, stderr } = await runMotemq(['pub', ...flags], { cwd: folder })
    expect([code, stderr]).toEqual([
      1,
      `Error: Message length must be less than 268435455 bytes.\nError loading input file "${file}".\n`
    ])
  })
})
