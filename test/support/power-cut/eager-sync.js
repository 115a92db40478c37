/**
 * A broker that acknowledges before the sync: its disk says that the data is on the medium while the real sync is still
 * to come. The power-cut test must catch it. Takes the place of `bin/motemq.js`.
 */
import { setTimeout } from 'node:timers/promises'
import { main } from '../../../dist/cli/main.js'
import { realDisk } from '../../../dist/journal/disk.js'

const LATER_MS = 20
const open = realDisk.open

realDisk.open = async (path, mode) => {
  const file = await open(path, mode)
  const sync = file.datasync.bind(file)
  let syncing = Promise.resolve()
  file.datasync = () => {
    syncing = syncing.then(() => setTimeout(LATER_MS)).then(sync)
    return Promise.resolve()
  }
  file.writeSynced = async (buffers, position) => {
    const count = await file.write(buffers, position)
    await file.datasync()
    return count
  }
  const close = file.close.bind(file)
  file.close = () => syncing.then(close)
  return file
}

await main(process.argv)
