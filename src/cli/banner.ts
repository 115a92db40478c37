/** What a person at a terminal sees when the broker is up. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join, relative } from 'node:path'
import type { Options } from '../config/options.ts'
import { VERSION } from '../lib/version.ts'
import type { RunningServer } from '../server.ts'

export function banner(options: Options, server: RunningServer, program: string): string {
  const lines = [`Motemq ${VERSION}`, '']
  const { recovery, stored } = server
  const found = recovery.isNew
    ? 'new'
    : `${count(stored.queues, 'queue')}, ${count(stored.sessions, 'session')}, ${count(stored.messages, 'message')}, ${count(stored.retained, 'retained message')} in ${Math.round(recovery.tookMs)} ms`
  lines.push(`  data       ${options.data} (${found})`)
  if (recovery.damagedBatches > 0 || recovery.skippedRecords > 0) {
    lines.push(
      `             ${count(recovery.damagedBatches, 'damaged batch')} and ${count(recovery.skippedRecords, 'unknown record')} were set aside`
    )
  }
  for (const [i, url] of server.urls.entries()) {
    lines.push(`  ${i === 0 ? 'listening' : '         '}  ${url}`)
  }
  lines.push(`  sync       ${options.sync}: what is acknowledged is on the disk`)
  lines.push(`  who        ${whoMayConnect(options, server)}`)
  lines.push('', 'Next:')
  for (const [command, what] of nextCommands(options, server, program)) {
    lines.push(`  ${command.padEnd(46)} ${what}`)
  }
  return `${lines.join('\n')}\n\n`
}

function whoMayConnect(options: Options, server: RunningServer): string {
  if (server.usersCount > 0) return `${count(server.usersCount, 'user')}, with their passwords`
  const isOpen = options.listeners.some(listener => listener.insecure && !listener.isLoopback)
  const reach = isOpen ? 'everybody who reaches it' : 'programs on this machine'
  return `${reach}: MQTT without a password, AMQP as guest/guest, until the first user is made`
}

function nextCommands(
  options: Options,
  server: RunningServer,
  program: string
): (readonly [string, string])[] {
  const data = `--data ${quote(options.data)}`
  const http = server.urls.find(url => url.startsWith('http://'))
  return [
    [`${program} users add sensors --generate ${data}`, 'make a user, with a new password'],
    [`${program} users list ${data}`, 'who may connect'],
    http === undefined
      ? [`${program} config print`, 'every option with its value']
      : [`curl ${http}/metrics`, 'what it counts']
  ]
}

/** How this program is called from the shell that started it. */
export function programName(script: string, searchPath: string, directory: string): string {
  for (const folder of searchPath.split(delimiter)) {
    if (folder === '') continue
    try {
      accessSync(join(folder, 'motemq'), constants.X_OK)
      return 'motemq'
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error
    }
  }
  const near = relative(directory, script)
  return `node ${quote(near.startsWith('..') ? script : near)}`
}

function quote(text: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

function count(number: number, noun: string): string {
  const plural = noun.endsWith('ch') ? `${noun}es` : `${noun}s`
  return `${number.toLocaleString('en')} ${number === 1 ? noun : plural}`
}
