/** Loaded before the program (`NODE_OPTIONS=--import`): every sync takes as long as on a bad memory card. */
import fs, { constants } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const SYNC_MS = 300
const { fdatasync, open, writev } = fs
/** Descriptors on which each write is a sync too. */
const synced = new Set()

fs.fdatasync = (descriptor, callback) => {
  setTimeout(() => fdatasync(descriptor, callback), SYNC_MS)
}

fs.open = (path, flags, ...rest) => {
  const callback = rest.pop()
  open(path, flags, ...rest, (error, descriptor) => {
    const isSynced = typeof flags === 'number' && (flags & constants.O_DSYNC) === constants.O_DSYNC
    if (error === null && isSynced) synced.add(descriptor)
    else synced.delete(descriptor)
    callback(error, descriptor)
  })
}

fs.writev = (descriptor, ...rest) => {
  if (synced.has(descriptor)) setTimeout(() => writev(descriptor, ...rest), SYNC_MS)
  else writev(descriptor, ...rest)
}

syncBuiltinESMExports()
