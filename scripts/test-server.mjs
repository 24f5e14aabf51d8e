// `npm run test:server`: the tests of test/ on a PostgreSQL server and Redis instead of the embedded database.
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const { DATABASE_ADMIN_URL: adminUrl, REDIS_URL: redisUrl, ...env } = process.env;
if (!adminUrl || !redisUrl) {
  process.stderr.write(
    'Set DATABASE_ADMIN_URL (a PostgreSQL role that may create databases and roles) and REDIS_URL (databases 1 to 15 of it are emptied).\n',
  );
  process.exit(2);
}

// Settings of the surroundings would be taken for those of the applications under test.
delete env.DATABASE_URL;
const vitest = spawn(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...vitestArguments()], {
  stdio: 'inherit',
  env: { ...env, TEST_DATABASE_ADMIN_URL: adminUrl, TEST_REDIS_URL: redisUrl },
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => vitest.kill(signal));
const code = await new Promise(done => vitest.on('exit', (exitCode, signal) => done(signal ? 1 : exitCode)));
await dropLeftovers();
process.exit(code);

/** Options as they are given; all of test/ and what of src/ has tests of its own for a server, unless files are named. */
function vitestArguments() {
  const given = process.argv.slice(2);
  const named = given.some(argument => !argument.startsWith('-'));
  return named
    ? given
    : [...given, 'test/', 'src/foundation/database/', 'src/core/audit/', 'src/core/authorization/'];
}

/** Databases of tests that were killed before they could drop them; those in use belong to another run. */
async function dropLeftovers() {
  // Connections of the last file may still be closing.
  await sleep(200);
  const admin = new pg.Client({ connectionString: adminUrl });
  await admin.connect();
  try {
    const { rows } = await admin.query(
      `SELECT format('DROP DATABASE IF EXISTS %I', datname) AS statement FROM pg_database d
       WHERE datname LIKE 'enclave\\_test\\_%' AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)`,
    );
    for (const { statement } of rows) await admin.query(statement);
  } finally {
    await admin.end();
  }
}
