import { z } from 'zod';
import type { ProbeFinding } from '../../foundation/database/isolation-probes.js';
import type { SigningKey } from '../../foundation/crypto/signing-key.js';
import { VERSION } from '../health/version.js';

export const isolationSchema = z
  .object({
    checked_at: z.iso.datetime(),
    version: z.string().meta({ example: '0.1.0' }),
    database: z.enum(['embedded', 'server']),
    ok: z.boolean().describe('Whether everything holds that could be looked at'),
    findings: z.array(
      z
        .object({
          check: z.string().meta({ example: 'forced' }),
          subject: z.string().describe('A role, a table or a connection').meta({ example: 'documents' }),
          ok: z.boolean(),
          tried: z
            .boolean()
            .describe('False where it could not be looked at; then it is not `ok`, and does not count'),
          detail: z.string(),
        })
        .meta({ id: 'IsolationFinding' }),
    ),
    signing_key: z
      .object({
        public_key: z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string() }),
        fingerprint: z.string().describe('SHA-256 thumbprint (RFC 7638), base64url'),
      })
      .describe('Which reports are this installation’s'),
  })
  .meta({ id: 'Isolation' });

export type WireIsolation = z.infer<typeof isolationSchema>;

export function toIsolation(
  findings: readonly ProbeFinding[],
  { publicJwk, fingerprint }: SigningKey,
  embedded: boolean,
): WireIsolation {
  return {
    checked_at: new Date().toISOString(),
    version: VERSION,
    database: embedded ? 'embedded' : 'server',
    ok: findings.every(({ ok, tried }) => ok || !tried),
    findings: findings.map(({ check, subject, ok, tried, detail }) => ({
      check,
      subject,
      ok,
      tried,
      detail,
    })),
    signing_key: { public_key: { ...publicJwk }, fingerprint },
  };
}
