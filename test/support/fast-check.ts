/** Property tests draw the same cases at every run; MOTEMQ_SEED draws others. A failure prints its seed. */
import fc from 'fast-check'

fc.configureGlobal({ seed: Number(process.env['MOTEMQ_SEED'] ?? 20_261) })
