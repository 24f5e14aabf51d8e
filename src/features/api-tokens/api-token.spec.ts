import { describe, expect, it } from 'vitest';
import {
  PUBLISHABLE_SCOPES,
  type TokenLimits,
  fieldErrors,
  fieldsAbove,
  newSecret,
  prefixOf,
  widens,
} from './api-token.js';

const [A, B] = ['019aa5b0-0000-7000-8000-00000000000a', '019aa5b0-0000-7000-8000-00000000000b'] as const;
const SOON = new Date(Date.now() + 60_000);
const LATER = new Date(Date.now() + 120_000);

const limits = (fields: Partial<TokenLimits> = {}): TokenLimits => ({
  scopes: ['kb:read'],
  kbIds: null,
  agentIds: null,
  rateLimitPerMinute: 60,
  monthlyCreditBudget: null,
  expiresAt: null,
  ...fields,
});

describe('a secret', () => {
  it('says what it is for, and has 256 bits of chance', () => {
    for (const [kind, mark] of [
      ['live', 'rk_live_'],
      ['test', 'rk_test_'],
      ['publishable', 'rk_pub_'],
    ] as const) {
      const secret = newSecret(kind);
      expect(secret.startsWith(mark)).toBe(true);
      expect(Buffer.from(secret.slice(mark.length), 'base64url')).toHaveLength(32);
      expect(prefixOf(secret)).toBe(secret.slice(0, 16));
    }
    expect(new Set(Array.from({ length: 100 }, () => newSecret('live'))).size).toBe(100);
  });

  it('has a form, and what has another is none', () => {
    const secret = newSecret('live');
    for (const text of [
      '',
      'rk_',
      secret.slice(0, -1),
      `${secret}x`,
      `${secret}\n`,
      secret.replace('live', 'dead'),
      secret.toUpperCase(),
      ` ${secret}`,
      `${secret.slice(0, -1)}é`,
    ])
      expect(prefixOf(text), text).toBeNull();
  });
});

describe('limits', () => {
  it.each<[string, Partial<TokenLimits>, Partial<TokenLimits>, string[]]>([
    ['the same', {}, {}, []],
    [
      'less of everything',
      { kbIds: [A], agentIds: [A], rateLimitPerMinute: 1, monthlyCreditBudget: 0, expiresAt: SOON },
      {},
      [],
    ],
    ['a part of the knowledge bases', { kbIds: [A] }, { kbIds: [A, B] }, []],
    ['another knowledge base', { kbIds: [A, B] }, { kbIds: [A] }, ['kb_ids']],
    ['all knowledge bases', { kbIds: null }, { kbIds: [A] }, ['kb_ids']],
    ['all agents', { agentIds: null }, { agentIds: [A] }, ['agent_ids']],
    ['a higher rate', { rateLimitPerMinute: 61 }, {}, ['rate_limit_per_minute']],
    ['a larger budget', { monthlyCreditBudget: 2 }, { monthlyCreditBudget: 1 }, ['monthly_credit_budget']],
    ['any budget', { monthlyCreditBudget: null }, { monthlyCreditBudget: 1 }, ['monthly_credit_budget']],
    ['a later end', { expiresAt: LATER }, { expiresAt: SOON }, ['expires_at']],
    ['no end', { expiresAt: null }, { expiresAt: SOON }, ['expires_at']],
  ])('are gone past, or not, by %s', (_, token, bound, fields) => {
    expect(fieldsAbove(limits(token), limits(bound))).toEqual(fields);
  });

  it('are widened by whatever gives more, and by nothing else', () => {
    const before = {
      ...limits({ kbIds: [A], scopes: ['kb:read', 'query:run'] }),
      allowedOrigins: ['https://a.example'],
      isActive: true,
    };
    expect(widens(before, { ...before, scopes: ['kb:read'] })).toBe(false);
    expect(widens(before, { ...before, isActive: false })).toBe(false);
    expect(widens({ ...before, isActive: false }, before)).toBe(true);
    expect(widens(before, { ...before, scopes: ['kb:update'] })).toBe(true);
    expect(widens(before, { ...before, kbIds: [B] })).toBe(true);
    expect(widens(before, { ...before, allowedOrigins: [] })).toBe(false);
    expect(widens(before, { ...before, allowedOrigins: ['https://a.example', 'https://b.example'] })).toBe(
      true,
    );
  });
});

describe('fields', () => {
  const paths = (fields: Partial<Parameters<typeof fieldErrors>[0]>) =>
    fieldErrors({ ...limits(), kind: 'live', allowedOrigins: [], ...fields }).map(({ path }) => path);
  const published = {
    kind: 'publishable' as const,
    scopes: PUBLISHABLE_SCOPES,
    kbIds: [A],
    allowedOrigins: ['https://example.com'],
  };

  it('go together', () => {
    expect(paths({})).toEqual([]);
    expect(paths(published)).toEqual([]);
    expect(paths({ ...published, scopes: PUBLISHABLE_SCOPES.toReversed() })).toEqual([]);
  });

  it('or do not', () => {
    expect(paths({ expiresAt: new Date() })).toEqual(['expires_at']);
    expect(paths({ allowedOrigins: ['https://example.com'] })).toEqual(['allowed_origins']);
    for (const scope of ['kb:create', 'tenant:read_audit', 'tenant:manage_webhooks'])
      expect(paths({ kbIds: [A], scopes: [scope] })).toEqual(['scopes']);
    expect(paths({ ...published, allowedOrigins: [] })).toEqual(['allowed_origins']);
    expect(paths({ ...published, kbIds: null })).toEqual(['kb_ids']);
    expect(paths({ ...published, scopes: ['query:run'] })).toEqual(['scopes']);
    expect(paths({ ...published, scopes: [...PUBLISHABLE_SCOPES, 'kb:read'] })).toEqual(['scopes']);
  });
});
