import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Says of everything that decides what a migrated database looks like. @param root of the project, or of a copy of it */
export function templateName(root: string): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(join(root, 'migrations')).toSorted())
    hash.update(readFileSync(join(root, 'migrations', name)));
  hash.update(readFileSync(join(root, 'casbin/policy.csv')));
  hash.update(readFileSync(join(root, 'src/foundation/database/migrate.ts')));
  return `enclave_template_${hash.digest('hex').slice(0, 12)}`;
}
