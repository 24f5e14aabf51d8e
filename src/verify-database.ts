import type { WireIsolation } from './entry/isolation/isolation.dto.js';
import type { VerifyContext } from './verify-context.js';
import type { TestRecord } from './verify-record.js';

/** Each must be among what the server looked at; one more on a database server. */
const CHECKS = [
  'role',
  'owner',
  'row_security',
  'forced',
  'policy',
  'written_by_tenants',
  'granted_access',
  'restriction_flags',
  'token_kbs',
  'own_chats',
  'token_agents',
  'reachable',
  'nobody',
  'unknown_tenant',
  'made_up_row',
  'after_commit',
  'after_error',
];

/** T5: what the server finds when it looks at its own database. */
export async function database({ admin }: Pick<VerifyContext, 'admin'>, record: TestRecord): Promise<void> {
  const { findings, database: kind } = (await admin.must(
    'GET',
    '/platform/isolation',
  )) as unknown as WireIsolation;
  const [tried, untried] = [
    findings.filter(finding => finding.tried),
    findings.filter(({ tried: was }) => !was),
  ];
  for (const { detail } of untried) record.leftOut.add(detail);
  await record.each(tried, ({ check, subject, ok, detail }) => {
    record.check(ok, () => ({
      where: subject,
      who: `the database, ${check}`,
      expected: 'to hold',
      got: detail,
    }));
    return Promise.resolve();
  });
  const looked = new Set(findings.map(({ check }) => check));
  for (const check of [...CHECKS, ...(kind === 'server' ? ['after_cancelled_query'] : [])]) {
    record.check(looked.has(check), () => ({
      where: 'GET /platform/isolation',
      who: 'the database',
      expected: `a look at ${check}`,
      got: 'none',
    }));
  }
}
