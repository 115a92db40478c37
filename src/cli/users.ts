/** `motemq users ...`: on a running broker through its admin socket, on a stopped one in its journal. */
import { existsSync } from 'node:fs'
import { Hasher, hashPassword } from '../auth/password.ts'
import { checkUserName, generatePassword, type UserAdmin } from '../auth/users.ts'
import { type LoadInput, loadOptions } from '../config/load.ts'
import type { Options } from '../config/options.ts'
import { printable } from '../lib/printable.ts'
import { askNewPassword, readPasswordFromStdin } from './ask.ts'
import { CommandError, EXIT_USAGE } from './exit.ts'
import { connectToBroker } from './remote-users.ts'

export interface PasswordFlags {
  readonly passwordStdin?: boolean
  readonly generate?: boolean
}

export async function addUser(
  input: LoadInput,
  name: string,
  flags: PasswordFlags & { readonly tag?: readonly string[] }
): Promise<void> {
  checkUserName(name)
  await withUsers(input, true, async users => {
    const existing = await users.list()
    if (existing.some(user => user.name === name)) {
      throw new CommandError(
        `there is a user ${printable(name)} already; change the password with: motemq users passwd`
      )
    }
    const { password, generated } = await newPassword(name, flags)
    await users.add(name, password, flags.tag ?? [])
    say(`user ${printable(name)} added`)
    if (generated !== null) sayPassword(generated)
  })
}

export async function changePassword(
  input: LoadInput,
  name: string,
  flags: PasswordFlags
): Promise<void> {
  await withUsers(input, false, async users => {
    const existing = await users.list()
    if (!existing.some(user => user.name === name)) {
      throw new CommandError(`there is no user ${printable(name)}`)
    }
    const { password, generated } = await newPassword(name, flags)
    await users.setPassword(name, password)
    say(`the password of ${printable(name)} is changed`)
    if (generated !== null) sayPassword(generated)
  })
}

export async function removeUser(input: LoadInput, name: string): Promise<void> {
  await withUsers(input, false, async users => {
    await users.remove(name)
    say(`user ${printable(name)} removed`)
  })
}

export async function listUsers(input: LoadInput, isJson: boolean): Promise<void> {
  await withUsers(input, false, async users => {
    const list = await users.list()
    if (isJson) {
      say(JSON.stringify(list))
      return
    }
    if (list.length === 0) say('no users: only programs on this machine may connect')
    const width = Math.max(...list.map(user => printable(user.name).length), 4)
    for (const user of list) {
      const notes = [...user.tags]
      if (!user.hasPassword) notes.push('(no password)')
      if (user.isConfigured) notes.push('(config file)')
      say(`${printable(user.name).padEnd(width)}  ${notes.join(' ')}`.trimEnd())
    }
  })
}

/** Prints what `passwordHash` in a config file takes. */
export async function printHash(flags: PasswordFlags): Promise<void> {
  const hasher = new Hasher()
  try {
    const { password, generated } = await newPassword('the hash', flags)
    const { passwordHash } = await hashPassword(hasher, password)
    if (generated !== null) process.stderr.write(`password: ${generated}\n`)
    say(passwordHash)
  } finally {
    await hasher.close()
  }
}

async function withUsers(
  input: LoadInput,
  mayCreate: boolean,
  work: (users: UserAdmin) => Promise<void>
): Promise<void> {
  const { options } = await loadOptions(input)
  const remote = await connectToBroker(options.data)
  if (remote !== null) {
    await work(remote)
    return
  }
  if (!mayCreate && !existsSync(options.data)) {
    throw new CommandError(`there is no data folder ${options.data}; name it with --data`)
  }
  await withStoppedBroker(options, work)
}

async function withStoppedBroker(
  options: Options,
  work: (users: UserAdmin) => Promise<void>
): Promise<void> {
  const { openStopped } = await import('../stopped.ts')
  const stopped = await openStopped(options)
  try {
    await work(stopped.users)
  } finally {
    await stopped.close()
  }
}

async function newPassword(
  name: string,
  flags: PasswordFlags
): Promise<{ password: Uint8Array; generated: string | null }> {
  if (flags.generate === true && flags.passwordStdin === true) {
    throw new CommandError('--generate and --password-stdin exclude each other', EXIT_USAGE)
  }
  if (flags.generate === true) {
    const generated = generatePassword()
    return { password: Buffer.from(generated), generated }
  }
  const password =
    flags.passwordStdin === true ? await readPasswordFromStdin() : await askNewPassword(name)
  return { password, generated: null }
}

function sayPassword(password: string): void {
  say(`password: ${password}`)
  say('It is shown this once and kept nowhere.')
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
