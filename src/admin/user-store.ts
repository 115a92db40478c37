/** Users in the journal, with those of the config file beside them. */
import type { UserStore } from '../auth/users.ts'
import type { Broker } from '../broker/broker.ts'
import { deleteUser, setUser } from '../broker/users.ts'
import type { User } from '../core/principal.ts'

export class JournalUsers implements UserStore {
  readonly #broker: Broker
  #configured: ReadonlyMap<string, User>
  readonly #onChange: () => void

  hasCommonRules: boolean

  constructor(
    broker: Broker,
    configured: readonly User[],
    hasCommonRules: boolean,
    onChange: () => void
  ) {
    this.#broker = broker
    this.hasCommonRules = hasCommonRules
    this.#configured = new Map(configured.map(user => [user.name, user]))
    this.#onChange = onChange
  }

  /** The configuration says something else of users now; nobody is told yet. */
  configure(configured: readonly User[], hasCommonRules: boolean): void {
    this.#configured = new Map(configured.map(user => [user.name, user]))
    this.hasCommonRules = hasCommonRules
  }

  users(): ReadonlyMap<string, User> {
    if (this.#configured.size === 0) return this.#broker.state.users
    return new Map([...this.#broker.state.users, ...this.#configured])
  }

  isConfigured(name: string): boolean {
    return this.#configured.has(name)
  }

  hasVhost(name: string): boolean {
    return this.#broker.state.vhost(name) !== null
  }

  async putUser(user: User): Promise<void> {
    setUser(this.#broker, user)
    this.#onChange()
    await this.#broker.journal.flush()
  }

  async deleteUser(name: string): Promise<void> {
    deleteUser(this.#broker, name)
    this.#onChange()
    await this.#broker.journal.flush()
  }
}
