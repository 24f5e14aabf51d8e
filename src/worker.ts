import { run } from './process.js';

await run(() => ({ http: false, jobs: true }));
