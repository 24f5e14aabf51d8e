import { startCompiledWorkers } from '../../src/foundation/worker-threads/worker-entry.js';

// Hundreds of applications start in a run, each with a few threads.
const folder = process.env['TEST_COMPILED_SOURCE'];
if (folder) startCompiledWorkers(folder);
