#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import zlib from 'node:zlib'

// The young generation stays at 8 MB: a broker with millions of waiting messages must fit a Pi's memory.
setFlagsFromString('--semi-space-growth-factor=1')
// The old generation is collected when it has grown by 30 %, not fourfold: what ten thousand clients that came and
// went leave behind is not kept until the broker is idle.
setFlagsFromString('--heap-growing-percent=30')

const program = new URL('../dist/cli/main.js', import.meta.url)
if (typeof zlib.crc32 !== 'function') {
  process.stderr.write(
    `motemq: needs Node.js 20.15 or newer (of 22: 22.2), with zlib.crc32: this is ${process.version}\n`
  )
  process.exitCode = 1
} else if (existsSync(program)) {
  const { main } = await import(program.href)
  await main(process.argv)
} else {
  process.stderr.write(
    'motemq: not built yet: run "npm install" (or "npm run build") in the folder of Motemq first\n'
  )
  process.exitCode = 1
}
