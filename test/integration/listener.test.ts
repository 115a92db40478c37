import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { Admission } from '../../src/net/admission.ts'
import { Arrival } from '../../src/net/arrival.ts'
import { type Listener, ListenError, openListener, openListeners } from '../../src/net/listener.ts'
import { listenAddress } from '../support/listen-address.ts'

const open: { close(): unknown }[] = []
afterEach(() => {
  for (const thing of open.splice(0)) thing.close()
})

function address(port: number, host = '127.0.0.1') {
  return { ...listenAddress({ host, port }), isOptional: false }
}

function admission(part: Partial<Admission> = {}) {
  return new Admission({ connectionsMax: 100, perSecond: 5_000, burst: 10_000, ...part })
}

async function listen(
  gate: Admission,
  onConnection: (arrival: Arrival) => void
): Promise<Listener> {
  const listener = await openListener(address(0), { admission: gate, onConnection })
  open.push(listener)
  return listener
}

/** Nobody comes. */
function unused() {
  return { admission: admission(), onConnection: () => undefined }
}

function client(port: number): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  open.push({ close: () => socket.destroy() })
  return socket
}

function occupied(): Promise<{ server: Server; port: number }> {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const bound = server.address()
      resolve({ server, port: typeof bound === 'object' && bound !== null ? bound.port : 0 })
    })
    open.push(server)
  })
}

async function failureOf(promise: Promise<unknown>): Promise<ListenError> {
  const error = await promise.then(
    () => null,
    (failed: unknown) => failed
  )
  expect(error).toBeInstanceOf(ListenError)
  return error as ListenError
}

describe('a listener', () => {
  it('knows its real port and hands connections over unread', async () => {
    const taken = new Promise<Socket>(resolve => {
      void listen(admission(), ({ socket }) => resolve(socket)).then(listener => {
        expect(listener.url).toBe(`mqtt://127.0.0.1:${listener.port}`)
        client(listener.port).write('hello')
      })
    })
    const socket = await taken
    open.push({ close: () => socket.destroy() })
    expect(socket.bytesRead).toBe(0)
    const bytes = new Promise<string>(resolve =>
      socket.once('data', chunk => resolve(String(chunk)))
    )
    socket.resume()
    expect(await bytes).toBe('hello')
  })

  it('on a port in use says which, by whom, and the flag that changes it, in one line', async () => {
    const { port } = await occupied()
    const error = await failureOf(openListener(address(port), unused()))
    expect(error.code).toBe('EADDRINUSE')
    expect(error.message).toMatch(
      `cannot listen on mqtt://127.0.0.1:${port}: port ${port} is in use by `
    )
    expect(error.message).toMatch(`--listen mqtt://127.0.0.1:${port + 1}`)
    expect(error.message).not.toContain('\n')
    if (process.platform === 'linux') expect(error.message).toContain(`(pid ${process.pid})`)
  })

  it('on an address that this machine does not have says so', async () => {
    const error = await failureOf(openListener(address(0, '192.0.2.1'), unused()))
    expect(error.message).toBe(
      'cannot listen on mqtt://192.0.2.1:0: this machine has no address 192.0.2.1'
    )
  })

  it('is left out when its address is missing and it is optional', async () => {
    const optional = { ...address(0, '192.0.2.1'), isOptional: true }
    const opened = await openListeners([address(0), optional], unused())
    open.push(...opened.listeners)
    expect(opened.listeners).toHaveLength(1)
    expect(opened.skipped).toEqual(['mqtt://192.0.2.1:0'])
  })

  it('that fails takes those opened before it with it', async () => {
    const first = await openListener(address(0), unused())
    const { port } = first
    first.close()
    const busy = await occupied()
    await failureOf(openListeners([address(port), address(busy.port)], unused()))
    const again = await openListener(address(port), unused())
    again.close()
  })

  it('frees its port when close returns, and may be closed twice', async () => {
    const listener = await listen(admission(), () => undefined)
    client(listener.port)
    await new Promise(resolve => setImmediate(resolve))
    listener.close()
    listener.close()
    const again = await openListener(address(listener.port), unused())
    again.close()
  })

  it('closes at once what is beyond the most connections, counts it, and recovers', async () => {
    const gate = admission({ connectionsMax: 2 })
    const taken: Socket[] = []
    const listener = await listen(gate, ({ socket, release }) => {
      taken.push(socket)
      socket.once('close', release).resume()
    })
    const closed = [0, 1, 2, 3].map(
      () =>
        new Promise<string>(resolve => {
          const socket = client(listener.port)
          socket.once('close', () => resolve('closed'))
        })
    )
    await Promise.any(closed)
    await new Promise<void>(resolve => {
      const look = () => (gate.refused === 2 ? resolve() : setImmediate(look))
      look()
    })
    expect(taken).toHaveLength(2)
    expect(gate.open).toBe(2)
    for (const socket of taken) socket.destroy()
    await new Promise<void>(resolve => {
      const look = () => (gate.open === 0 ? resolve() : setImmediate(look))
      look()
    })
    client(listener.port)
    await new Promise<void>(resolve => {
      const look = () => (taken.length === 3 ? resolve() : setImmediate(look))
      look()
    })
  })

  it('makes those wait who come faster than its rate, and refuses nobody', async () => {
    const gate = admission({ perSecond: 50, burst: 5 })
    let count = 0
    const done = new Promise<void>(resolve => {
      void listen(gate, ({ socket }) => {
        socket.destroy()
        count++
        if (count === 20) resolve()
      }).then(listener => {
        for (let i = 0; i < 20; i++) client(listener.port)
      })
    })
    await done
    expect(gate.refused).toBe(0)
    expect(gate.delayed).toBeGreaterThan(0)
  })

  it('trusts local peers, and everybody when it is insecure on purpose, but nobody behind a proxy', () => {
    const trusted = (part: object, remoteAddress: string | undefined, isProxied = false) => {
      const socket = { remoteAddress } as Socket
      const arrival = new Arrival(listenAddress(part), socket, unheard, unheard)
      arrival.isProxied = isProxied
      return arrival.isTrusted
    }
    expect(trusted({}, '127.0.0.1')).toBe(true)
    expect(trusted({}, '10.0.0.1')).toBe(false)
    expect(trusted({}, undefined)).toBe(false)
    expect(trusted({ insecure: true }, '10.0.0.1')).toBe(true)
    expect(trusted({ unixPath: '/run/m.sock' }, undefined)).toBe(true)
    expect(trusted({}, '127.0.0.1', true)).toBe(false)
    expect(trusted({ unixPath: '/run/m.sock' }, undefined, true)).toBe(false)
  })
})

function unheard(): void {
  // Nothing arrives.
}
