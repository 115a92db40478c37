/** What the broker publishes itself, of a client that is gone or of none: permission was judged before. */
import { Principal } from '../core/principal.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Publisher } from './consumer.ts'

export class OwnPublisher implements Publisher {
  readonly principal: Principal
  readonly clientId: string
  readonly vhost: Vhost
  readonly session = null

  constructor(vhost: Vhost, clientId = '', user = '') {
    this.principal = new Principal(user, [], vhost.name, [], [], true)
    this.clientId = clientId
    this.vhost = vhost
  }

  onDurable(): void {}
  onPause(): void {}
  onResume(): void {}
  onDiskAlarm(): void {}
}
