import { expect, it } from 'vitest';
import { LIMIT_NAMES, effectiveLimits, limitOverridesSchema } from './tenant-limits.js';

it('takes what was set for the tenant, else the plan’s, else none', () => {
  const limits = effectiveLimits(
    { max_users: 3, max_kbs: 1, max_documents: 10 },
    { max_kbs: null, max_users: 5 },
  );
  expect(Object.keys(limits)).toEqual(LIMIT_NAMES);
  expect(limits).toMatchObject({ max_users: 5, max_kbs: null, max_documents: 10, max_agents: null });
  expect(effectiveLimits(null).max_users).toBeNull();
  expect(effectiveLimits({ max_users: 3 }, { max_users: 0 }).max_users).toBe(0);
});

it.each([{ max_user: 1 }, { max_users: -1 }, { max_users: 0.5 }, { max_users: 1e13 }, { max_users: '1' }])(
  'refuses %j',
  overrides => {
    expect(limitOverridesSchema.safeParse(overrides).success).toBe(false);
  },
);
