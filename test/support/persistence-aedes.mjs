/**
 * A broker of Aedes on the journal, to be killed: argv FOLDER PORT ID. Says `ready`, then a line for each packet
 * that is stored and on its way: Aedes says `publish` behind its stores. Ends well at SIGTERM.
 */
import { say } from './say.mjs'
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import { createPersistence } from 'motemq/persistence'

const [folder, port, id] = process.argv.slice(2)
const persistence = createPersistence({ folder })
const broker = await Aedes.createBroker({ id, persistence, heartbeatInterval: 250 })
broker.on('publish', ({ topic, payload }) => {
  if (!topic.startsWith('$')) say(`stored ${payload}\n`)
})
const server = createServer(broker.handle)
server.listen(Number(port), '127.0.0.1', () => say('ready\n'))
process.on('SIGTERM', () => {
  server.close()
  broker.close(async () => {
    await persistence.close()
    process.exit(0)
  })
})
