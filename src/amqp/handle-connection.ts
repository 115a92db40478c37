/** Methods on channel 0: the handshake, and the end (AMQP 0-9-1 §1.4, §2.2.4). */
import { type FieldTable, fieldOf } from '../core/field-table.ts'
import { CONNECTION, encodeMethod, type Method, readArguments } from './codec/methods.ts'
import type { AmqpConnection } from './connection.ts'
import {
  AUTHENTICATING,
  AWAIT_OPEN,
  AWAIT_START_OK,
  AWAIT_TUNE_OK,
  CLOSING,
  LEAVING,
  RUNNING
} from './connection-states.ts'
import { AmqpError, REPLY } from './reply-codes.ts'
import { type Login, readLogin } from './sasl.ts'
import { misplacedMethod } from './unserved.ts'

/** RabbitMQ asks for 8192 since 4.1, which broke the many clients whose default is 4096. */
const FRAME_MAX_LEAST = 4096
const CHANNEL_MAX_LEAST = 1

/** A method frame's payload `buffer[start..end)`; four bytes at least. */
export function handleConnectionMethod(
  connection: AmqpConnection,
  buffer: Buffer,
  start: number,
  end: number
): void {
  const id = buffer.readUInt32BE(start)
  if (connection.state === CLOSING) {
    handleWhileClosing(connection, id)
    return
  }
  if (id === CONNECTION.close.id) {
    handleClose(connection)
    return
  }
  if (connection.state === LEAVING) return
  const at = start + 4
  switch (connection.state) {
    case AWAIT_START_OK:
      expect(id, CONNECTION.startOk)
      handleStartOk(connection, buffer, at, end)
      return
    case AWAIT_TUNE_OK:
      expect(id, CONNECTION.tuneOk)
      handleTuneOk(connection, buffer, at, end)
      return
    case AWAIT_OPEN:
      expect(id, CONNECTION.open)
      handleOpen(connection, readArguments(CONNECTION.open, buffer, at, end).virtualHost)
      return
    default:
      if (id === CONNECTION.updateSecret.id) {
        handleUpdateSecret(connection, buffer, at, end)
        return
      }
      throw misplacedMethod(id)
  }
}

function expect(id: number, method: Method): void {
  if (id === method.id) return
  throw new AmqpError(REPLY.commandInvalid, 'unexpected method during the handshake')
}

/** Everything but the end is thrown away (§1.4.2.8). */
function handleWhileClosing(connection: AmqpConnection, id: number): void {
  if (id === CONNECTION.close.id) connection.writeFrame(encodeMethod(CONNECTION.closeOk, 0, {}))
  if (id === CONNECTION.closeOk.id || id === CONNECTION.close.id) connection.end('closed by us')
}

/**
 * The client ends the socket when it has read close-ok (§1.4.2.9), as with RabbitMQ: an end of ours might be noticed
 * before close-ok is worked on, and would then be told as an error. A stranger is not waited for.
 */
function handleClose(connection: AmqpConnection): void {
  const isStranger = connection.state < RUNNING
  // Exclusive queues are gone when the client reads close-ok.
  connection.tearDown()
  connection.writeFrame(encodeMethod(CONNECTION.closeOk, 0, {}))
  if (connection.state === LEAVING) return
  connection.state = LEAVING
  connection.stateMs = 0
  if (isStranger) connection.end('closed by the client')
}

function handleStartOk(connection: AmqpConnection, buffer: Buffer, at: number, end: number): void {
  const { clientProperties, mechanism, response } = readArguments(
    CONNECTION.startOk,
    buffer,
    at,
    end
  )
  readClient(connection, clientProperties)
  const login = readLogin(mechanism, response, connection.peer.identity)
  connection.login = login
  connection.state = AUTHENTICATING
  authenticate(
    connection,
    login,
    connection.peer.vhost,
    () => sendTune(connection),
    () => refuseLogin(connection, mechanism),
    // It may ask for another one.
    () => sendTune(connection)
  )
}

function readClient(connection: AmqpConnection, properties: FieldTable): void {
  const capabilities = fieldOf(properties, 'capabilities')
  const table = capabilities?.type === 'F' ? capabilities.value : []
  const has = (name: string): boolean => fieldOf(table, name)?.value === true
  const name = fieldOf(properties, 'connection_name')
  connection.client.name = name?.type === 'S' ? name.value : ''
  connection.client.authenticationFailureClose = has('authentication_failure_close')
  connection.client.consumerCancelNotify = has('consumer_cancel_notify')
  connection.client.connectionBlocked = has('connection.blocked')
}

/** Asks for the principal; what the client sends meanwhile is held. */
function authenticate(
  connection: AmqpConnection,
  login: Login,
  vhost: string,
  onAccepted: () => void,
  onRefused: () => void,
  onVhostRefused = onRefused
): void {
  const { authenticator } = connection.context
  const credentials = {
    protocol: 'amqp' as const,
    username: login.username,
    password: login.password,
    clientId: connection.client.name,
    vhost,
    peer: connection.peer.address,
    isLoopback: connection.peer.isTrusted,
    identity: connection.peer.identity
  }
  authenticator
    .authenticate(credentials)
    .then(result => {
      // It may have been closed meanwhile, by its peer or because its user was deleted.
      if (connection.state >= CLOSING) return
      if (result.ok) {
        connection.principal = result.principal
        onAccepted()
      } else if (result.reason === 'vhost-refused') onVhostRefused()
      else onRefused()
    })
    .catch((error: unknown) => {
      connection.fail(error, null, CONNECTION.startOk.classId, CONNECTION.startOk.methodId)
    })
    .finally(() => connection.resume())
}

/** Only a client that says so understands the answer; the others see the connection end. */
function refuseLogin(connection: AmqpConnection, mechanism: string): void {
  connection.broker.counters.loginFailures++
  const user = connection.login?.username ?? connection.peer.identity
  connection.log.warn({ user }, 'amqp login refused')
  connection.login = null
  if (!connection.client.authenticationFailureClose) {
    connection.refuse()
    return
  }
  const explanation = `Login was refused using authentication mechanism ${mechanism}. For details see the broker logfile.`
  connection.closeWith(new AmqpError(REPLY.accessRefused, explanation, true), 0, 0)
}

function sendTune(connection: AmqpConnection): void {
  const { channelMax, frameMax, heartbeatSeconds: heartbeat } = connection.context.options
  connection.state = AWAIT_TUNE_OK
  connection.writeFrame(encodeMethod(CONNECTION.tune, 0, { channelMax, frameMax, heartbeat }))
}

function handleTuneOk(connection: AmqpConnection, buffer: Buffer, at: number, end: number): void {
  const tuned = readArguments(CONNECTION.tuneOk, buffer, at, end)
  const { channelMax, frameMax } = connection.context.options
  checkNegotiated('frame_max', tuned.frameMax, FRAME_MAX_LEAST, frameMax)
  checkNegotiated('channel_max', tuned.channelMax, CHANNEL_MAX_LEAST, channelMax)
  connection.setFrameMax(tuned.frameMax)
  connection.channelMax = tuned.channelMax
  connection.heartbeat.seconds = tuned.heartbeat
  connection.context.watchHeartbeat(tuned.heartbeat)
  connection.state = AWAIT_OPEN
}

/** 0 is "no limit", which is more than ours. */
function checkNegotiated(name: string, value: number, least: number, most: number): void {
  if (value !== 0 && value < least) {
    const explanation = `negotiated ${name} = ${value} is lower than the minimum allowed value (${least})`
    throw new AmqpError(REPLY.notAllowed, explanation)
  }
  if (value === 0 || value > most) {
    const explanation = `negotiated ${name} = ${value} is higher than the maximum allowed value (${most})`
    throw new AmqpError(REPLY.notAllowed, explanation)
  }
}

function handleOpen(connection: AmqpConnection, name: string): void {
  const { login } = connection
  if (!connection.broker.vhosts.has(name)) {
    throw new AmqpError(REPLY.notAllowed, `vhost ${name} not found`)
  }
  const isJudged = connection.principal !== connection.context.nobody
  if (login === null || (isJudged && name === connection.peer.vhost)) {
    finishOpen(connection, name)
    return
  }
  connection.state = AUTHENTICATING
  const refuse = (): void => {
    const user = connection.principal.name
    const explanation = `access to vhost '${name}' refused for user '${user}'`
    const { classId, methodId } = CONNECTION.open
    connection.closeWith(new AmqpError(REPLY.notAllowed, explanation), classId, methodId)
  }
  authenticate(connection, login, name, () => finishOpen(connection, name), refuse)
}

/**
 * A new secret for a login that may run out. Passwords do not: nothing is compared, as in RabbitMQ; what the user
 * may do is looked up again.
 */
function handleUpdateSecret(
  connection: AmqpConnection,
  buffer: Buffer,
  at: number,
  end: number
): void {
  readArguments(CONNECTION.updateSecret, buffer, at, end)
  const { broker, principal, vhost } = connection
  const now = broker.principalOf(principal.name, vhost.name)
  if (now !== null) {
    connection.principal = now
    // Whether it may publish there was asked with the rules of before.
    connection.lastExchange = null
  }
  connection.writeFrame(encodeMethod(CONNECTION.updateSecretOk, 0, {}))
}

function finishOpen(connection: AmqpConnection, name: string): void {
  const vhost = connection.broker.vhosts.get(name)
  // It was deleted while the password was looked at; the answer of the authenticator is no packet's handling.
  if (vhost === undefined) {
    const { classId, methodId } = CONNECTION.open
    const error = new AmqpError(REPLY.notAllowed, `vhost ${name} not found`)
    connection.closeWith(error, classId, methodId)
    return
  }
  connection.login = null
  connection.vhost = vhost
  connection.log = connection.log.child({
    user: connection.principal.name,
    vhost: name,
    clientId: connection.client.name
  })
  connection.log.info('amqp client connected')
  connection.writeFrame(encodeMethod(CONNECTION.openOk, 0, { reserved: '' }))
  connection.run()
}
