/** `motemq vhost ...`, `motemq queue list` and `motemq permission ...`. */
import type { QueueSummary } from '../admin/queues.ts'
import type { VhostSummary } from '../admin/vhosts.ts'
import type { LoadInput } from '../config/load.ts'
import type { ResourceRule, TopicPermission } from '../core/principal.ts'
import { printable } from '../lib/printable.ts'
import { askStore, pathOf, say, sayRows } from './ask-store.ts'

export async function addVhost(
  input: LoadInput,
  name: string,
  { description = '', tag = [] }: { description?: string; tag?: readonly string[] }
): Promise<void> {
  const body = { description, tags: tag }
  await askStore(input, { method: 'PUT', path: pathOf('vhosts', name), body })
  say(`virtual host ${printable(name)} is there`)
}

export async function deleteVhost(input: LoadInput, name: string): Promise<void> {
  await askStore(input, { method: 'DELETE', path: pathOf('vhosts', name) })
  say(`virtual host ${printable(name)} deleted`)
}

export async function listVhosts(input: LoadInput, isJson: boolean): Promise<void> {
  const found = await askStore(input, { method: 'GET', path: pathOf('vhosts') })
  if (isJson) {
    say(JSON.stringify(found))
    return
  }
  const rows = (found as VhostSummary[]).map(vhost => [
    printable(vhost.name),
    `${vhost.queues} queues`,
    `${vhost.messages} messages`,
    `${vhost.sessions} sessions`,
    `${vhost.retained} retained`,
    printable(
      [vhost.tracing ? 'traced' : '', vhost.description, ...vhost.tags]
        .filter(note => note !== '')
        .join(' ')
    )
  ])
  sayRows(rows)
}

export async function listQueues(input: LoadInput, isJson: boolean): Promise<void> {
  const found = (await askStore(input, { method: 'GET', path: pathOf('queues') })) as QueueSummary[]
  if (isJson) {
    say(JSON.stringify(found))
    return
  }
  if (found.length === 0) say('no queues')
  sayRows(
    found.map(queue => [
      printable(queue.vhost),
      printable(queue.name),
      `${queue.ready} ready`,
      `${queue.unacked} unacked${heldText(queue)}`,
      `${queue.consumers} consumers`,
      [queue.policy, queue.operatorPolicy]
        .filter(name => name !== '')
        .map(printable)
        .join(' ')
    ])
  )
}

/** What waits for a time of its own; nearly always nothing. */
function heldText(queue: QueueSummary): string {
  const delayed = queue.delayed > 0 ? `, ${queue.delayed} delayed` : ''
  return queue.letters > 0 ? `${delayed}, ${queue.letters} dead letters` : delayed
}

export async function setPermission(
  input: LoadInput,
  user: string,
  rule: ResourceRule
): Promise<void> {
  const { vhost, ...body } = rule
  await askStore(input, { method: 'PUT', path: pathOf('permissions', vhost, user), body })
  say(`permissions of ${printable(user)} in ${printable(vhost)} set`)
}

export async function clearPermission(
  input: LoadInput,
  user: string,
  vhost: string
): Promise<void> {
  await askStore(input, { method: 'DELETE', path: pathOf('permissions', vhost, user) })
  say(`permissions of ${printable(user)} in ${printable(vhost)} cleared`)
}

export async function setTopicPermission(
  input: LoadInput,
  user: string,
  permission: TopicPermission
): Promise<void> {
  const { vhost, ...body } = permission
  await askStore(input, { method: 'PUT', path: pathOf('topic-permissions', vhost, user), body })
  say(`topic permissions of ${printable(user)} in ${printable(vhost)} set`)
}

export async function clearTopicPermission(
  input: LoadInput,
  user: string,
  vhost: string,
  exchange: string | undefined
): Promise<void> {
  const body = exchange === undefined ? {} : { exchange }
  await askStore(input, { method: 'DELETE', path: pathOf('topic-permissions', vhost, user), body })
  say(`topic permissions of ${printable(user)} in ${printable(vhost)} cleared`)
}

export async function listPermissions(input: LoadInput, isJson: boolean): Promise<void> {
  const get = (path: string) => askStore(input, { method: 'GET', path: pathOf(path) })
  const permissions = (await get('permissions')) as (ResourceRule & { user: string })[]
  const topics = (await get('topic-permissions')) as (TopicPermission & { user: string })[]
  if (isJson) {
    say(JSON.stringify({ permissions, topic_permissions: topics }))
    return
  }
  if (permissions.length + topics.length === 0) say('no permissions: every user may do everything')
  sayRows([
    ...permissions.map(({ user, vhost, configure, write, read }) => [
      ...[printable(user), printable(vhost)],
      ...[`configure ${shown(configure)}`, `write ${shown(write)}`, `read ${shown(read)}`]
    ]),
    ...topics.map(({ user, vhost, exchange, write, read }) => [
      ...[printable(user), printable(vhost)],
      ...[`exchange ${shown(exchange)}`, `write ${shown(write)}`, `read ${shown(read)}`]
    ])
  ])
}

function shown(text: string): string {
  return JSON.stringify(text)
}
