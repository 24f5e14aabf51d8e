import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { UsageError } from './cli-command.js';
import { type SigningKey, fingerprintOf, isSignedBy } from './foundation/crypto/signing-key.js';
import { TESTS, TEST_NAMES, type TestResult } from './verify-record.js';

export const REPORT_FORMAT = 'enclave isolation report 1';

const failureSchema = z.object({
  where: z.string(),
  who: z.string(),
  expected: z.string(),
  got: z.string(),
});

/** What is signed. */
const contentSchema = z.object({
  format: z.literal(REPORT_FORMAT),
  held: z.boolean(),
  /** Whether some of the seven were left out on purpose. */
  partial: z.boolean(),
  address: z.string(),
  database: z.enum(['embedded', 'server']),
  server_version: z.string(),
  command_version: z.string(),
  started_at: z.iso.datetime(),
  ended_at: z.iso.datetime(),
  routes: z.int(),
  cases: z.int(),
  failure_count: z.int(),
  tests: z.array(
    z.object({
      test: z.enum(TEST_NAMES),
      title: z.string(),
      cases: z.int(),
      /** Of very many only the first are listed. */
      failure_count: z.int(),
      failures: z.array(failureSchema),
      left_out: z.array(z.string()),
    }),
  ),
  notes: z.array(z.string()),
});

const reportSchema = z.object({
  content: contentSchema,
  signature: z.object({
    algorithm: z.literal('Ed25519'),
    canonicalization: z.literal('RFC 8785'),
    public_key: z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string() }),
    fingerprint: z.string(),
    value: z.string(),
  }),
});

export type ReportContent = z.infer<typeof contentSchema>;
export type IsolationReport = z.infer<typeof reportSchema>;

/** What a run was, beside what its tests found. */
export type ReportFacts = Pick<
  ReportContent,
  | 'address'
  | 'database'
  | 'server_version'
  | 'command_version'
  | 'started_at'
  | 'ended_at'
  | 'routes'
  | 'notes'
>;

export function contentOf(facts: ReportFacts, results: readonly TestResult[]): ReportContent {
  const failures = results.reduce((sum, { failure_count: failed }) => sum + failed, 0);
  return {
    format: REPORT_FORMAT,
    // What tried nothing has shown nothing.
    held: failures === 0 && results.every(({ cases }) => cases > 0),
    partial: results.length < TEST_NAMES.length,
    ...facts,
    cases: results.reduce((sum, { cases }) => sum + cases, 0),
    failure_count: failures,
    tests: results.map(result => ({ ...result, title: TESTS[result.test].title })),
  };
}

export function signReport(content: ReportContent, key: SigningKey): IsolationReport {
  return {
    content,
    signature: {
      algorithm: 'Ed25519',
      canonicalization: 'RFC 8785',
      public_key: { ...key.publicJwk },
      fingerprint: key.fingerprint,
      value: key.sign(content),
    },
  };
}

/** @throws UsageError where the file is no report */
export function readReport(path: string): { report: IsolationReport; signed: unknown } {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`The file ${path} cannot be read: ${(error as Error).message}`);
  }
  const { data, error } = reportSchema.safeParse(value);
  if (error) throw new UsageError(`The file ${path} is no report of verify-isolation.`);
  // As it stands in the file: fields that were added would be left out of what was parsed.
  return { report: data, signed: (value as { content: unknown }).content };
}

/** @returns what is wrong with the signature, in a sentence; null where it is the installation's */
export function faultInSignature(
  { report: { signature }, signed }: ReturnType<typeof readReport>,
  fingerprint: string,
): string | null {
  if (fingerprintOf(signature.public_key) !== fingerprint)
    return `The report was signed with the key ${fingerprintOf(signature.public_key)}, not with ${fingerprint}.`;
  if (!isSignedBy(signature.public_key, signed, signature.value))
    return 'The report is not as it was signed: somebody has changed it.';
  return null;
}
