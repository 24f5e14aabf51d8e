#!/usr/bin/env node
// enclave <command>: what "npm run cli -- <command>" does, from wherever it is called.
process.argv.splice(2, 0, 'src/cli.js');
await import('./start.mjs');
