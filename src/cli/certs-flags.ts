/** The flags of `motemq certs`. */
import type { Command } from 'commander'
import type { CertsFlags } from './certs.ts'
import { addDataFlags, readFlags } from './flags.ts'

export function addCerts(program: Command): void {
  const certs = program.command('certs').description('certificates for TLS')
  addInit(certs)
  const issue = certs.command('issue <name>').description('make a certificate for a device')
  addFolderFlags(issue)
  issue.option('--format <format...>', 'pem (default), c (a header), micropython (a module)')
  issue.option('--days <days>', 'valid for so long (default: 3650)')
  issue.option('--force', 'replace the one that is there, and revoke it')
  issue.action(async (name: string, flags: CertsFlags) => {
    const { issueCert } = await import('./certs.ts')
    await issueCert(readFlags(issue), name, flags)
  })
  const list = certs.command('list').description('list the certificates')
  addFolderFlags(list)
  list.option('--json', 'as JSON')
  list.action(async (flags: CertsFlags) => {
    const { listCerts } = await import('./certs.ts')
    await listCerts(readFlags(list), flags)
  })
  addRenew(certs)
  const revoke = certs
    .command('revoke <name>')
    .description("refuse a device's certificate from now on")
  addFolderFlags(revoke)
  revoke.action(async (name: string, flags: CertsFlags) => {
    const { revokeCert } = await import('./certs.ts')
    await revokeCert(readFlags(revoke), name, flags)
  })
}

function addInit(certs: Command): void {
  const init = certs.command('init').description("make an authority and the broker's certificate")
  addFolderFlags(init)
  init.option('--host <host...>', 'a further name or address of this machine')
  init.option('--days <days>', 'valid for so long (default: 825)')
  init.option('--force', "replace the broker's certificate and key; the authority stays")
  init.action(async (flags: CertsFlags) => {
    const { initCerts } = await import('./certs.ts')
    await initCerts(readFlags(init), flags)
  })
}

function addRenew(certs: Command): void {
  const renew = certs
    .command('renew [names...]')
    .description('make anew, with the same key, what expires soon, or what is named (server, NAME)')
  addFolderFlags(renew)
  renew.option('--within <days>', 'what expires within so many days (default: 30)')
  renew.option('--days <days>', 'valid for so long')
  renew.option('--host <host...>', "a further name or address for the broker's certificate")
  renew.action(async (names: string[], flags: CertsFlags) => {
    const { renewCerts } = await import('./certs.ts')
    await renewCerts(readFlags(renew), names, flags)
  })
}

function addFolderFlags(command: Command): void {
  addDataFlags(command)
  command.option('--dir <dir>', 'folder of the certificates (default: certs in the data folder)')
}
