import type { ProcessRole } from './app.module.js';
import { run } from './process.js';

// The worker's share is done here too, unless separate processes do it.
await run(env => ({ http: true, jobs: env.worker === 'in' }) satisfies ProcessRole);
