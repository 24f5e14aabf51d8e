import { writeDefaultPolicy } from './core/authorization/default-policy.repository.js';
import { loadEnvFile, parseEnv, SettingsError } from './foundation/config/env.js';
import { loadSecrets } from './foundation/crypto/secrets.js';
import { openDatabase } from './foundation/database/data-source.js';
import { migrate } from './foundation/database/migrate.js';

const [command] = process.argv.slice(2);

if (command === 'migrate') {
  try {
    loadEnvFile();
    const env = parseEnv(process.env);
    const access = await openDatabase(env, loadSecrets(env).jwtSecret);
    const ran = await migrate(access, writeDefaultPolicy);
    await access.close();
    process.stdout.write(ran.length > 0 ? `Ran ${ran.join(', ')}.\n` : 'The database is up to date.\n');
  } catch (error) {
    process.stderr.write(
      `${error instanceof SettingsError ? error.message : ((error as Error).stack ?? String(error))}\n`,
    );
    process.exit(1);
  }
} else {
  process.stderr.write('Usage: node dist/src/cli.js migrate\n');
  process.exit(2);
}
