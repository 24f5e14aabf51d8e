import { readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

/** From the ground up; a file imports from its own floor and those below. The files right in `src/` stand above all. */
const FLOORS = ['foundation', 'core', 'features', 'entry'];

/** A room imports from the rooms before it; rooms of a floor that is not here keep to no order, but to no circle either. */
const ROOMS: Record<string, string[]> = {
  core: [
    'tenancy',
    'events',
    'authorization',
    'audit',
    'variables',
    'jobs',
    'mail',
    'idempotency',
    'usage',
    'quotas',
    'credits',
    'models',
  ],
  features: [
    'users',
    'roles',
    'groups',
    'members',
    'tenants',
    'api-tokens',
    'knowledge-bases',
    'documents',
    'graph',
    'ingestion',
    'retrieval',
    'agents',
    'rag-query',
    'chat',
    'evaluation',
    'notifications',
    'webhooks',
    'analytics',
    'data-lifecycle',
  ],
};

/** Who opens transactions that belong to no tenant, and why. */
const PLATFORM_DATABASE_USERS = [
  'src/core/authorization/authorization.service.ts', // rules of a domain are read before a tenant is entered
  'src/core/credits/credit-jobs.service.ts', // finds the tenants in which something is due
  'src/core/credits/prices.service.ts', // prices are the platform’s
  'src/core/events/event-dispatcher.service.ts', // takes the events of every tenant out of the outbox
  'src/core/audit/audit-log.service.ts', // reads the platform's chain
  'src/core/audit/audit.service.ts', // the platform's chain, and denials
  'src/core/idempotency/idempotency.service.ts', // keys of requests that belong to no tenant, and those of all that are old
  'src/core/jobs/background-jobs.service.ts', // jobs of all tenants, and of none
  'src/core/jobs/job-runner.service.ts', // the same
  'src/core/jobs/job-watch.service.ts', // the same, and other rooms’
  'src/core/jobs/jobs.service.ts', // the same
  'src/core/mail/mail-job.service.ts', // how the tenant of an e-mail wants to look, while nobody acts in it
  'src/core/models/model-catalogue.service.ts', // the platform's models, of which every tenant may use some
  'src/core/models/model-keys.service.ts', // the platform's models have keys, too
  'src/core/models/model-usage.service.ts', // what the models of all tenants used, added up together
  'src/core/models/platform-models.service.ts', // the platform's models
  'src/core/quotas/quota-alarm.service.ts', // what went past limits, in every tenant
  'src/core/quotas/usage-counters.ts', // what was recorded of a tenant, also while nobody acts in it
  'src/core/quotas/quotas.service.ts', // plans and limits are the platform's to set
  'src/core/tenancy/tenancy.module.ts',
  'src/core/tenancy/tenant-directory.ts', // finds the tenant that will be entered
  'src/core/usage/usage-jobs.service.ts', // every tenant’s levels and rolled up days, and what is too old
  'src/core/usage/usage.service.ts', // a batch of usage events is of many tenants
  'src/entry/authentication/authentication.service.ts', // a user's tenants, seen from the user
  'src/entry/authentication/first-admin.service.ts', // the platform's own role
  'src/entry/authentication/sessions.service.ts', // sessions belong to users
  'src/entry/health/health.controller.ts', // asks whether the database answers
  'src/features/api-tokens/api-token-credentials.service.ts', // finds whose token it is before a tenant is entered
  'src/features/api-tokens/api-token-uses.service.ts', // when tokens were used, of all tenants together
  'src/features/analytics/platform-analytics.service.ts', // compares tenants, by their sums alone
  'src/features/analytics/queue-view.service.ts', // how much waits, in all tenants
  'src/features/chat/chat-retention.service.ts', // which tenants keep chats for how long, before each is entered
  'src/features/data-lifecycle/storage-sweep.service.ts', // every tenant, one after the other
  'src/features/documents/document-jobs.service.ts', // finds the tenant of a document that is asked for as a job
  'src/features/documents/document-retention.service.ts', // which tenants keep documents for how long, before each is entered
  'src/features/ingestion/ingestion-worker.service.ts', // ids of documents that wait, of all tenants
  'src/features/members/import-batch.service.ts', // accounts and their memberships, in one transaction
  'src/features/members/invitation-answers.service.ts', // whoever holds an invitation's token stands outside of its tenant
  'src/features/members/member-import.service.ts', // looks for accounts by their addresses
  'src/features/members/new-members.service.ts', // an account and its membership, in one transaction
  'src/features/notifications/alert-evaluation.service.ts', // which tenants have alerts, before each is entered
  'src/features/retrieval/large-index.service.ts', // which knowledge bases of all tenants are large
  'src/features/rag-query/answer-cache.service.ts', // sweeps what is too old, of all tenants, without reading it
  'src/features/tenants/key-rotation.service.ts', // every tenant, one after the other
  'src/features/tenants/tenant-creation.service.ts', // the register of tenants
  'src/features/tenants/tenant-deletion.service.ts', // the same
  'src/features/tenants/tenant-templates.service.ts', // templates are the platform’s
  'src/features/tenants/tenants.service.ts', // the register of tenants
  'src/features/webhooks/webhook-fanout.service.ts', // old deliveries of all tenants
  'src/features/users/passwords.service.ts', // the same, and whoever has forgotten theirs is nobody yet
  'src/features/users/user-administration.service.ts', // the same, as the platform sees them
  'src/features/users/users.service.ts', // users belong to the installation
];

/** A file of `src/` or `migrations/`, with the files that it imports. */
interface SourceFile {
  path: string;
  text: string;
  imports: string[];
}

const files = readSources();

/** Each rule names what breaks it; a rule that finds nothing in its counter-example would find nothing anywhere. */
const RULES: Array<{ rule: string; check: (sources: SourceFile[]) => string[]; broken: SourceFile[] }> = [
  {
    rule: 'floors import only downwards',
    check: floorViolations,
    broken: [source('src/core/models/model.ts', ['src/features/users/users.service.ts'])],
  },
  {
    rule: 'foundation knows nothing of tenants',
    check: floorViolations,
    broken: [source('src/foundation/http/x.ts', ['src/core/tenancy/tenant-context.ts'])],
  },
  {
    rule: 'rooms import only from rooms before them',
    check: roomViolations,
    broken: [source('src/features/users/users.service.ts', ['src/features/members/members.service.ts'])],
  },
  {
    rule: 'every room of an ordered floor has its place in the order',
    check: unknownRooms,
    broken: [source('src/features/sundries/sundries.service.ts')],
  },
  {
    rule: 'nothing goes round in a circle',
    check: cycles,
    broken: [
      source('src/core/models/a.ts', ['src/core/models/b.ts']),
      source('src/core/models/b.ts', ['src/core/models/c.ts']),
      source('src/core/models/c.ts', ['src/core/models/a.ts']),
    ],
  },
  {
    rule: 'SQL stands in repositories, tenancy, database and migrations',
    check: strayQueries,
    broken: [
      source('src/features/users/users.service.ts', [], 'await tx.query(statement)'),
      source('src/features/users/users.controller.ts', [], 'tx.getRepository(User)'),
      source('src/entry/health/health.service.ts', [], 'const sql = `SELECT 1 FROM users`'),
    ],
  },
  {
    rule: 'the platform’s door is opened by few',
    check: platformDatabaseUsers,
    broken: [
      source('src/features/retrieval/retrieval.service.ts', ['src/core/tenancy/platform-database.ts']),
    ],
  },
  {
    rule: 'the data source stays behind the two doors',
    check: dataSourceUsers,
    broken: [source('src/features/users/users.service.ts', ['src/foundation/database/tokens.ts'])],
  },
  {
    rule: 'settings are read in one place',
    check: environmentReaders,
    broken: [source('src/core/models/models.service.ts', [], `const key = process.env['LLM_API_KEY']`)],
  },
  { rule: 'there are no barrels', check: barrels, broken: [source('src/features/users/index.ts')] },
  {
    rule: 'no folder is named after nothing in particular',
    check: vagueFolders,
    broken: [source('src/foundation/utils/strings.ts')],
  },
  {
    rule: 'no file is longer than 500 lines',
    check: longFiles,
    broken: [source('src/features/users/users.service.ts', [], '\n'.repeat(501))],
  },
];

it('reads the whole house', () => {
  expect(files.length).toBeGreaterThan(100);
  expect(files.flatMap(file => file.imports).length).toBeGreaterThan(400);
  expect(files.map(({ path }) => path.split('/')[1])).toEqual(expect.arrayContaining(FLOORS));
});

describe.each(RULES)('$rule', ({ check, broken }) => {
  it('holds', () => expect(check(files)).toEqual([]));

  it('would be seen to be broken', () => {
    const found = check([...files, ...broken]);
    for (const file of broken) expect(found.join('\n')).toContain(file.path);
  });
});

it('names only files that do what the exception is for', () => {
  const users = files.filter(imports('src/core/tenancy/platform-database.ts')).map(file => file.path);
  expect(PLATFORM_DATABASE_USERS.filter(path => !users.includes(path))).toEqual([]);
});

function source(path: string, imported: string[] = [], text = ''): SourceFile {
  return { path, imports: imported, text };
}

function imports(path: string): (file: SourceFile) => boolean {
  return file => file.imports.includes(path);
}

function readSources(): SourceFile[] {
  const paths = ['src', 'migrations'].flatMap(folder =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.spec.ts'))
      .map(entry => relative(ROOT, join(entry.parentPath, entry.name))),
  );
  return paths.map(path => {
    const text = readFileSync(join(ROOT, path), 'utf8');
    const imported = ts
      .preProcessFile(text, true, true)
      .importedFiles.filter(({ fileName }) => fileName.startsWith('.'))
      .map(({ fileName }) => join(dirname(path), fileName).replace(/\.js$/, '.ts'));
    return { path, text, imports: imported };
  });
}

/** Of `src/<floor>/<room>/…`; the floor of what stands right in `src/` is above all, and of `migrations/` below. */
function place(path: string): { level: number; floor: string; room: string } {
  const [top, floor = '', room = ''] = path.split('/');
  const level = FLOORS.indexOf(floor);
  return { level: top === 'src' ? (level < 0 ? FLOORS.length : level) : -1, floor, room };
}

function edges(sources: SourceFile[]): Array<[from: string, to: string]> {
  return sources.flatMap(file => file.imports.map((imported): [string, string] => [file.path, imported]));
}

function floorViolations(sources: SourceFile[]): string[] {
  return edges(sources)
    .filter(([from, to]) => place(from).level >= 0 && place(to).level > place(from).level)
    .map(([from, to]) => `${from} imports ${to}`);
}

function roomViolations(sources: SourceFile[]): string[] {
  return edges(sources)
    .filter(([from, to]) => {
      const [a, b] = [place(from), place(to)];
      const order = ROOMS[a.floor];
      return order && a.floor === b.floor && order.indexOf(b.room) > order.indexOf(a.room);
    })
    .map(([from, to]) => `${from} imports ${to}`);
}

function unknownRooms(sources: SourceFile[]): string[] {
  return sources
    .map(file => file.path)
    .filter(path => ROOMS[place(path).floor]?.includes(place(path).room) === false);
}

/** Circles of files, and of rooms within a floor. Type-only imports count: they tie the reader just as much. */
function cycles(sources: SourceFile[]): string[] {
  const roomOf = (path: string) => path.split('/').slice(0, 3).join('/');
  const rooms = edges(sources)
    .filter(
      ([from, to]) => from.split('/').length > 3 && to.split('/').length > 3 && roomOf(from) !== roomOf(to),
    )
    .map(([from, to]): [string, string] => [roomOf(from), roomOf(to)]);
  return [...circlesIn(edges(sources)), ...circlesIn(rooms)];
}

/** Each circle once, as `a -> b -> a`: found by walking depth first and meeting what is still being walked. */
function circlesIn(graph: Array<[from: string, to: string]>): string[] {
  const next = new Map<string, string[]>();
  for (const [from, to] of graph) next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (node: string, trail: string[]): void => {
    if (trail.includes(node)) {
      found.push([...trail.slice(trail.indexOf(node)), node].join(' -> '));
      return;
    }
    if (done.has(node)) return;
    for (const to of next.get(node) ?? []) walk(to, [...trail, node]);
    done.add(node);
  };
  for (const node of next.keys()) walk(node, []);
  return found;
}

function strayQueries(sources: SourceFile[]): string[] {
  const home = /\.repository\.ts$|^src\/core\/tenancy\/|^src\/foundation\/database\/|^migrations\//;
  const calls = /\.query\s*(<[^(]*>)?\s*\(|\bqueryPrepared\b|\bcreateQueryBuilder\b|\bgetRepository\b/;
  const statement =
    /[`'"]\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|ALTER|CREATE|DROP|SET LOCAL)\s[^`'"]*/;
  const sql = /\b(FROM|WHERE|VALUES|SET|TABLE|ROLE|RETURNING)\b/;
  return sources
    .filter(
      ({ path, text }) => !home.test(path) && (calls.test(text) || sql.test(statement.exec(text)?.[0] ?? '')),
    )
    .map(({ path }) => path);
}

function platformDatabaseUsers(sources: SourceFile[]): string[] {
  return sources
    .filter(imports('src/core/tenancy/platform-database.ts'))
    .map(({ path }) => path)
    .filter(path => !PLATFORM_DATABASE_USERS.includes(path));
}

function dataSourceUsers(sources: SourceFile[]): string[] {
  return sources
    .filter(imports('src/foundation/database/tokens.ts'))
    .map(({ path }) => path)
    .filter(
      path =>
        !/^src\/(core\/tenancy\/(tenant|platform)-database|foundation\/database\/database\.module)\.ts$/.test(
          path,
        ),
    );
}

function environmentReaders(sources: SourceFile[]): string[] {
  return sources
    .filter(({ path, text }) => {
      if (path.startsWith('src/foundation/config/')) return false;
      // The processes hand it on whole, and look at nothing in it themselves.
      const rest = ['src/process.ts', 'src/cli.ts'].includes(path)
        ? text.replaceAll('parseEnv(process.env)', '')
        : text;
      return /\bprocess\.env\b|\bfrom 'node:process'/.test(rest);
    })
    .map(({ path }) => path);
}

function barrels(sources: SourceFile[]): string[] {
  return sources.map(({ path }) => path).filter(path => basename(path) === 'index.ts');
}

function vagueFolders(sources: SourceFile[]): string[] {
  const vague = ['utils', 'util', 'helpers', 'helper', 'common', 'shared', 'misc', 'lib'];
  return sources
    .map(({ path }) => path)
    .filter(path =>
      dirname(path)
        .split('/')
        .some(folder => vague.includes(folder)),
    );
}

function longFiles(sources: SourceFile[]): string[] {
  return sources
    .filter(({ text }) => text.split('\n').length > 501)
    .map(({ path, text }) => `${path}: ${text.split('\n').length} lines`);
}
