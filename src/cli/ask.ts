/** Passwords from people and pipes. */
import { CommandError, EXIT_USAGE } from './exit.ts'

const INPUT_BYTES_MAX = 65_536

/** Asks twice on the terminal, showing nothing. */
export async function askNewPassword(name: string): Promise<Uint8Array> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new CommandError(
      'there is no terminal to ask for the password; use --password-stdin or --generate',
      EXIT_USAGE
    )
  }
  const first = await askHidden(`Password for ${name}: `)
  if (first === '') throw new CommandError('the password is empty')
  const second = await askHidden('Again: ')
  if (first !== second) throw new CommandError('the two are not the same; nothing was changed')
  return Buffer.from(first)
}

/** All of stdin; one line end at its end is taken off. */
export async function readPasswordFromStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer)
    bytes += (chunk as Buffer).length
    if (bytes > INPUT_BYTES_MAX) throw new CommandError('the password on stdin is too long')
  }
  const all = Buffer.concat(chunks)
  let end = all.length
  if (end > 0 && all[end - 1] === 0x0a) end--
  if (end > 0 && all[end - 1] === 0x0d) end--
  if (end === 0) throw new CommandError('there was no password on stdin')
  return all.subarray(0, end)
}

function askHidden(question: string): Promise<string> {
  const { stdin, stderr } = process
  stderr.write(question)
  stdin.setRawMode(true)
  stdin.setEncoding('utf8')
  stdin.resume()
  return new Promise((resolve, reject) => {
    let typed = ''
    const finish = (done: () => void) => {
      stdin.off('data', onData)
      stdin.setRawMode(false)
      stdin.pause()
      stderr.write('\n')
      done()
    }
    const onData = (text: string) => {
      for (const c of text) {
        if (c === '\r' || c === '\n' || c === '\u0004') return finish(() => resolve(typed))
        if (c === '\u0003') return finish(() => reject(new CommandError('given up', 130)))
        if (c === '\u007f' || c === '\b') typed = [...typed].slice(0, -1).join('')
        else if (c === '\u0015') typed = ''
        else if (c >= ' ') typed += c
      }
    }
    stdin.on('data', onData)
  })
}
