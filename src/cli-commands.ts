import { type ParseArgsConfig, parseArgs } from 'node:util';
import { type Command, type Output, UsageError, withApplication } from './cli-command.js';
import { writeDefaultPolicy } from './core/authorization/default-policy.repository.js';
import { baseUrlOf } from './core/mail/mail-job.service.js';
import { passwordUrl } from './core/mail/mail-letter.js';
import { TenantContext } from './core/tenancy/tenant-context.js';
import { GRACE_MINUTES, StorageSweepService } from './features/data-lifecycle/storage-sweep.service.js';
import { KeyRotationService } from './features/tenants/key-rotation.service.js';
import { TenantCreationService } from './features/tenants/tenant-creation.service.js';
import { fieldErrors } from './features/tenants/tenant-fields.js';
import { createTenantSchema } from './features/tenants/tenants.dto.js';
import type { Env } from './foundation/config/env.js';
import { loadSecrets } from './foundation/crypto/secrets.js';
import { openDatabase } from './foundation/database/data-source.js';
import { migrate } from './foundation/database/migrate.js';
import { Problem } from './foundation/http/problem.js';
import { EVAL_USAGE, evaluate } from './eval-command.js';
import { INGEST_USAGE, ingest } from './ingest-command.js';
import { VERIFY_USAGE, verifyIsolation } from './verify-command.js';

export { UsageError } from './cli-command.js';

export const USAGE = `Usage: npm run cli -- <command>

  migrate             Brings the database up to date.
  rotate-keys         Seals anew what is sealed with ENCRYPTION_OLD_KEYS. Set the new ENCRYPTION_KEY in every
                      process first, with the key of before among ENCRYPTION_OLD_KEYS.
  storage sweep       Deletes stored files that belong to no document, and counts originals that are missing.
    --older-than-minutes N    leaves younger files alone; less only while nothing is being uploaded [${GRACE_MINUTES}]
    --adopt                   takes over what another database has stored, which is gone for good
  tenant create       Makes a tenant, and prints its id.
    --name NAME               lowercase letters, digits, dashes and underscores
    --display-name TEXT
    --description TEXT
    --type TYPE               organization, department, project or customer
    --parent-id ID
    --plan-tier TIER          free, starter, pro or enterprise
    --from-template NAME
    --placeholder NAME=TEXT   for the template; may be given several times
    --admin-email EMAIL       its first owner, made or found [the platform's admin]
    --admin-username NAME
    --admin-name TEXT
${INGEST_USAGE}${EVAL_USAGE}${VERIFY_USAGE}
On the embedded database, stop the server first; verify-isolation alone is for one that runs.
`;

/**
 * The command that was typed.
 *
 * @returns runs it; resolves to the exit code
 * @throws UsageError
 */
export function parseCommand(args: readonly string[]): Command {
  const [first, second] = args;
  if (first === 'migrate' && args.length === 1) return runMigrations;
  if (first === 'rotate-keys' && args.length === 1) return rotateKeys;
  if (first === 'storage' && second === 'sweep') return sweepStorage(args.slice(2));
  if (first === 'ingest') return ingest(args.slice(1));
  if (first === 'eval') return evaluate(args.slice(1));
  if (first === 'verify-isolation') return verifyIsolation(args.slice(1));
  if (first === 'tenant' && second === 'create') return createTenant(args.slice(2));
  throw new UsageError(first ? `There is no command "${args.join(' ')}".` : 'Which command?');
}

async function runMigrations(env: Env, output: Output): Promise<number> {
  const access = await openDatabase(env, loadSecrets(env).jwtSecret);
  try {
    const ran = await migrate(access, writeDefaultPolicy);
    output.result(ran.length > 0 ? `Ran ${ran.join(', ')}.` : 'The database is up to date.');
  } finally {
    await access.close();
  }
  return 0;
}

function rotateKeys(env: Env, output: Output): Promise<number> {
  return withApplication(env, output, async nest => {
    const { variables, jobs, others, lost } = await nest.get(KeyRotationService, { strict: false }).run();
    const counts = Object.entries({ variables, 'payloads of jobs': jobs, ...others });
    output.result(`Sealed anew: ${counts.map(([what, count]) => `${what} ${count}`).join(', ')}.`);
    for (const what of lost) output.note(`No key of the settings opens ${what}.`);
    if (lost.length === 0) output.note('ENCRYPTION_OLD_KEYS is not needed any more.');
    return lost.length === 0 ? 0 : 1;
  });
}

function sweepStorage(args: string[]): Command {
  const options = sweepOptions(args);
  return (env, output) =>
    withApplication(env, output, async nest => {
      const service = nest.get(StorageSweepService, { strict: false });
      const { checked, deleted, bytes, missing } = await service.sweep(options);
      output.result(`Files: checked ${checked}, deleted ${deleted} (${bytes} bytes).`);
      output.result(`Originals that are missing: ${missing}.`);
      return 0;
    });
}

function sweepOptions(args: string[]): { olderThanMinutes: number; adopt: boolean } {
  const { values } = parse(args, { 'older-than-minutes': text, adopt: { type: 'boolean', default: false } });
  const minutes = values['older-than-minutes'] ?? String(GRACE_MINUTES);
  if (!/^\d{1,7}$/.test(minutes)) throw new UsageError('--older-than-minutes is a whole number.');
  return { olderThanMinutes: Number(minutes), adopt: values.adopt };
}

function createTenant(args: string[]): Command {
  const options = tenantOptions(args);
  return (env, output) =>
    withApplication(env, output, async nest => {
      const { data, error } = createTenantSchema.safeParse({
        ...options.tenant,
        admin_user: { email: options.adminEmail ?? env.platformAdmin.email, ...options.admin },
      });
      if (error) throw Problem.invalid(fieldErrors(error, ''));
      const { tenant, adminUser } = await nest
        .get(TenantContext)
        .runAsSystem(null, () =>
          nest.get(TenantCreationService, { strict: false }).create(data, { userId: null, platform: true }),
        );
      output.result(tenant.id);
      if (adminUser) output.note(`First owner: ${adminUser.email}`);
      if (adminUser?.token) {
        output.note(`To choose a password, once: ${passwordUrl(adminUser.token, baseUrlOf(env))}`);
      }
      return 0;
    });
}

function tenantOptions(args: string[]) {
  const { values } = parseOptions(args);
  if (values.name === undefined) throw new UsageError('tenant create needs --name.');
  const placeholders = values.placeholder?.map(text => {
    const at = text.indexOf('=');
    if (at < 1) throw new UsageError('--placeholder is NAME=TEXT.');
    return [text.slice(0, at), text.slice(at + 1)] as const;
  });
  return {
    tenant: {
      name: values.name,
      display_name: values['display-name'],
      description: values.description,
      type: values.type,
      parent_id: values['parent-id'],
      plan_tier: values['plan-tier'],
      template: values['from-template'],
      placeholders: placeholders && Object.fromEntries(placeholders),
    },
    adminEmail: values['admin-email'],
    admin: { username: values['admin-username'], full_name: values['admin-name'] },
  };
}

const text = { type: 'string' } as const;

const parseOptions = (args: string[]) =>
  parse(args, {
    name: text,
    'display-name': text,
    description: text,
    type: text,
    'parent-id': text,
    'plan-tier': text,
    'from-template': text,
    placeholder: { type: 'string', multiple: true },
    'admin-email': text,
    'admin-username': text,
    'admin-name': text,
  });

/** @throws UsageError */
function parse<const Options extends NonNullable<ParseArgsConfig['options']>>(
  args: string[],
  options: Options,
) {
  try {
    return parseArgs({ args, options });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
