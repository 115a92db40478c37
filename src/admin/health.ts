/** `/healthz`: is it alive (else restart it); `/readyz`: does it take work now. */
import type { BrokerStats } from '../broker/stats.ts'
import { json, type Route } from './router.ts'

export interface HealthSource {
  /** Everything that should listen listens, and it is not being stopped. */
  isServing(): boolean
  stats(): Pick<BrokerStats, 'journalFailed' | 'diskLevel'>
}

export function healthRoutes(source: HealthSource): Route[] {
  return [
    {
      path: '/healthz',
      methods: {
        GET: () => {
          // A failed journal confirms nothing until a restart: this is what a restart is for.
          const isAlive = !source.stats().journalFailed
          return json({ status: isAlive ? 'ok' : 'failed', journal: isAlive }, isAlive ? 200 : 503)
        }
      }
    },
    {
      path: '/readyz',
      methods: {
        GET: () => {
          const { journalFailed, diskLevel } = source.stats()
          const checks = {
            listeners: source.isServing(),
            journal: !journalFailed,
            disk: diskLevel !== 'red'
          }
          const isReady = checks.listeners && checks.journal && checks.disk
          const status = isReady ? 'ready' : 'not ready'
          return json({ status, checks, diskLevel }, isReady ? 200 : 503)
        }
      }
    }
  ]
}
