/** Loaded before the program (`NODE_OPTIONS=--import`): every sync takes as long as on a bad memory card. */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const SYNC_MS = 300
const { fdatasync } = fs

fs.fdatasync = (descriptor, callback) => {
  setTimeout(() => fdatasync(descriptor, callback), SYNC_MS)
}
syncBuiltinESMExports()
