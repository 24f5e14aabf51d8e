/**
 * What AuthorizationService.can costs: from the first question about a domain, which loads its rules from the
 * database, to one that has been answered before.
 *
 *   npm run bench -- authorization
 *
 * On the server of DATABASE_ADMIN_URL where it is set, else embedded.
 */
import { v7 as uuidv7 } from 'uuid';
import { AuthorizationService } from '../src/core/authorization/authorization.service.js';
import { CasbinRule, CasbinRulesRepository } from '../src/core/authorization/casbin-rules.repository.js';
import {
  BUILT_IN_ROLES,
  PERMISSIONS,
  type Permission,
  tenantDomain,
} from '../src/core/authorization/permissions.js';
import { MemberFactsRepository } from '../src/core/authorization/member-facts.repository.js';
import { PlatformDatabase } from '../src/core/tenancy/platform-database.js';
import { parseEnv } from '../src/foundation/config/env.js';
import { ChangeFeed } from '../src/foundation/database/change-feed.js';
import { createInstallation } from './installation.js';

const TENANTS = 200;
const WARM_QUESTIONS = 200_000;
const TENANT_PERMISSIONS = (Object.keys(PERMISSIONS) as Permission[]).filter(
  name => !/^(platform|user):/.test(name),
);

const installation = await createInstallation(process.env['DATABASE_ADMIN_URL']);
try {
  await installation.migrate();
  const access = await installation.open();
  const dataSource = access.application([CasbinRule]);
  await dataSource.initialize();
  const database = new PlatformDatabase(dataSource);
  const authorization = new AuthorizationService(
    parseEnv(installation.settings),
    database,
    new CasbinRulesRepository(),
    new MemberFactsRepository(),
    new ChangeFeed(null),
  );
  authorization.onModuleInit();

  // A tenant has one member for each role.
  const tenants: Array<{ domain: string; users: string[] }> = [];
  for (let i = 0; i < TENANTS; i++) {
    const tenantId = uuidv7();
    const domain = tenantDomain(tenantId);
    const users = BUILT_IN_ROLES.map(() => uuidv7());
    await database.run(async tx => {
      await tx.query(
        `INSERT INTO tenants (id, name, display_name, plan_tier) VALUES ($1, $2, $2, 'enterprise')`,
        [tenantId, `tenant-${i}`],
      );
      for (const [index, role] of BUILT_IN_ROLES.entries()) {
        await authorization.assignRole(tx, users[index] as string, role, domain);
      }
    });
    tenants.push({ domain, users });
  }

  const newDomain: number[] = [];
  const newUser: number[] = [];
  const newPermission: number[] = [];
  const ask = async (into: number[], user: string, domain: string, permission: Permission) => {
    const started = performance.now();
    await authorization.can(user, domain, permission);
    into.push((performance.now() - started) * 1000);
  };
  for (const { domain, users } of tenants) {
    for (const [index, id] of users.entries())
      await ask(index === 0 ? newDomain : newUser, id, domain, 'tenant:read');
    for (const id of users) {
      for (const permission of TENANT_PERMISSIONS) {
        if (permission !== 'tenant:read') await ask(newPermission, id, domain, permission);
      }
    }
  }
  const known: number[] = [];
  for (let i = 0; i < WARM_QUESTIONS; i++) {
    const { domain, users } = randomItem(tenants);
    await ask(known, randomItem(users), domain, randomItem(TENANT_PERMISSIONS));
  }
  await dataSource.destroy();
  await access.close();

  console.log(
    `${TENANTS} tenants with ${BUILT_IN_ROLES.length} members each, ${installation.adminUrl ? 'on a server' : 'embedded'}`,
  );
  console.table({
    'first question about a domain': row(newDomain),
    'first about a user': row(newUser),
    'first about a permission': row(newPermission),
    'asked before': row(known),
  });
  console.log('Target: at most 30 µs at the median for what was asked before.');
} finally {
  await installation.remove();
}

function row(microseconds: number[]): Record<string, string | number> {
  const sorted = microseconds.toSorted((a, b) => a - b);
  const percentile = (share: number) => (sorted[Math.floor(sorted.length * share)] as number).toFixed(1);
  return { questions: sorted.length, 'p50 µs': percentile(0.5), 'p99 µs': percentile(0.99) };
}

function randomItem<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)] as T;
}
