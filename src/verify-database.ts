import type { WireIsolation } from './entry/isolation/isolation.dto.js';
import type { VerifyContext } from './verify-context.js';
import type { TestRecord } from './verify-record.js';

/** T5: what the server finds when it looks at its own database. */
export async function database({ admin }: Pick<VerifyContext, 'admin'>, record: TestRecord): Promise<void> {
  const { findings } = (await admin.must('GET', '/platform/isolation')) as unknown as WireIsolation;
  await record.each(findings, ({ check, subject, ok, detail }) => {
    record.check(ok, () => ({
      where: subject,
      who: `the database, ${check}`,
      expected: 'to hold',
      got: detail,
    }));
    return Promise.resolve();
  });
  const rolled = new Set(findings.map(({ check }) => check));
  for (const check of ['role', 'row_security', 'forced', 'policy', 'nobody', 'after_error']) {
    record.check(rolled.has(check), () => ({
      where: 'GET /platform/isolation',
      who: 'the database',
      expected: `a look at ${check}`,
      got: 'none',
    }));
  }
}
