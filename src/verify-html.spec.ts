import { describe, expect, it } from 'vitest';
import { SigningKey } from './foundation/crypto/signing-key.js';
import { saidBy, tableOf } from './verify-command.js';
import { reportPage } from './verify-html.js';
import { TEST_NAMES, type TestResult } from './verify-record.js';
import { contentOf, signReport } from './verify-report.js';

const FACTS = {
  address: 'https://rag.example.com',
  database: 'server' as const,
  server_version: '1.2.3',
  command_version: '1.2.3',
  started_at: '2026-11-22T05:10:11.123Z',
  ended_at: '2026-11-22T05:11:52.000Z',
  routes: 112,
  notes: [],
};
const key = SigningKey.of('a key of the installation, long enough for it');
const resultsOf = (changes: Partial<Record<string, Partial<TestResult>>> = {}): TestResult[] =>
  TEST_NAMES.map(test => ({
    test,
    cases: 1_200,
    failure_count: changes[test]?.failures?.length ?? 0,
    failures: [],
    left_out: [],
    ...changes[test],
  }));
const pageOf = (results: TestResult[]) =>
  reportPage(signReport(contentOf(FACTS, results), key), 'report.json');
const failure = { where: 'GET /<b>', who: 'a "viewer" & others', expected: '404', got: `it's <script>` };

describe('the page of a report', () => {
  it('says that everything held', () => {
    const page = pageOf(resultsOf());
    for (const text of [
      'Tenants are kept apart.',
      '8,400',
      'https://rag.example.com',
      '1.2.3',
      key.fingerprint,
    ])
      expect(page).toContain(text);
    expect(page).not.toContain('What did not hold');
  });

  it('shows what did not, escaped', () => {
    const page = pageOf(resultsOf({ T4: { failures: [failure] } }));
    expect(page).toContain('Isolation did not hold.');
    expect(page).toContain('GET /&lt;b&gt;');
    expect(page).toContain('a &quot;viewer&quot; &amp; others');
    expect(page).toContain('it&#39;s &lt;script&gt;');
    expect(page).not.toContain('<script');
    expect(page).not.toContain('<b>,');
  });

  it('needs nothing from anywhere', () => {
    expect(pageOf(resultsOf())).not.toMatch(/\b(src|href)=|@import|url\(|<script/);
    expect(pageOf(resultsOf())).toContain(`default-src 'none'`);
  });

  it('says that only some tests were tried', () => {
    const page = pageOf(resultsOf().slice(0, 2));
    expect(page).toContain('What was tried held.');
    expect(page).toContain('only T1, T2 were tried');
    expect(page).toContain('<title>Isolation report: what was tried held</title>');
  });

  it('counts what failed, also what is not listed', () => {
    const page = pageOf(resultsOf({ T3: { failure_count: 2_345, failures: [failure] } }));
    expect(page).toContain('2,345 did not end as they must, in T3');
    expect(page).toContain('2,345 failed');
  });

  it('does not call looks and controls attempts', () => {
    expect(pageOf(resultsOf())).toContain('8,400 checks, and each ended as it must.');
  });
});

describe('the table of a report', () => {
  it('has a line for each test, and one for all', () => {
    const lines = tableOf(contentOf(FACTS, resultsOf()));
    expect(lines).toHaveLength(9);
    expect(lines[1]).toMatch(/^T1 {2}Foreign ids +1200 +0$/);
    expect(lines[8]).toMatch(/^ +all +8400 +0$/);
  });

  it('names what failed, and how many more there are', () => {
    const failures = Array.from({ length: 23 }, () => failure);
    const content = contentOf(FACTS, resultsOf({ T2: { failures }, T6: { cases: 0 } }));
    expect(content).toMatchObject({ held: false, failure_count: 23 });
    const text = tableOf(content).join('\n');
    expect(text).toContain(`T2 GET /<b>: a "viewer" & others. Expected 404; got it's <script>`);
    expect(text).toContain('T2 … and 3 more, in the report');
    expect(text).toContain('T6 has tried nothing.');
  });

  it('does not hold where a test has tried nothing', () => {
    expect(contentOf(FACTS, resultsOf({ T6: { cases: 0 } })).held).toBe(false);
  });
});

describe('what is said of a report that is good', () => {
  const said = (results: TestResult[]) => saidBy(contentOf(FACTS, results));

  it('is no more than it holds', () => {
    expect(said(resultsOf())).toBe('everything held');
    expect(said(resultsOf().slice(4, 5))).toBe('what was tried held; of the seven tests only T5 tried');
    expect(said(resultsOf({ T6: { left_out: ['The index.'] } }))).toBe(
      'everything held; 1 thing(s) left out, as it says',
    );
    expect(said(resultsOf({ T2: { failures: [failure] } }))).toBe('1 case(s) failed');
    expect(said(resultsOf({ T6: { cases: 0 } }))).toBe('nothing failed, but not everything could be tried');
  });
});
