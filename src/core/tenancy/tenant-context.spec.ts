import { setTimeout as sleep } from 'node:timers/promises';
import { ClsServiceManager } from 'nestjs-cls';
import { describe, expect, it } from 'vitest';
import { ContextMissingError, TenantContext } from './tenant-context.js';

const cls = ClsServiceManager.getClsService();
const context = new TenantContext(cls);
const A = { id: 'a', name: 'tenant-a' };
const B = { id: 'b', name: 'tenant-b' };
const user = {
  kind: 'user',
  userId: 'u',
  email: 'u@example.com',
  sessionId: 's',
  tokenTenantId: null,
} as const;

describe('TenantContext', () => {
  it('throws where nobody has said whose request or job this is', () => {
    const reads: Array<() => unknown> = [() => context.principal, () => context.tenant, () => context.userId];
    for (const read of reads) {
      expect(read).toThrow(ContextMissingError);
      expect(() => cls.run(read)).toThrow(ContextMissingError);
    }
  });

  it('is null outside of a request only where it is asked for as such', () => {
    expect([context.tenantOrNull, context.principalOrNull]).toEqual([null, null]);
    expect(cls.run(() => [context.tenantOrNull, context.principalOrNull])).toEqual([null, null]);
  });

  it('holds for one request, and for what it calls later', async () => {
    await cls.run(async () => {
      context.setPrincipal(user);
      context.setTenant(A, { all: false, groups: [], member: true });
      await sleep(1);
      expect(context).toMatchObject({ principal: user, tenant: A, userId: 'u' });
    });
    expect(() => context.tenant).toThrow(ContextMissingError);
  });

  it('keeps jobs that run at the same time apart', async () => {
    const seen = await Promise.all(
      Array.from({ length: 20 }, (_, index) => {
        const tenant = index % 2 === 0 ? A : B;
        return context.runAsSystem(tenant, async () => {
          await sleep(Math.random() * 5);
          return context.tenant === tenant && context.principal.kind === 'system';
        });
      }),
    );
    expect(seen).toEqual(Array.from({ length: 20 }, () => true));
  });

  it('has no user where the system acts', async () => {
    await context.runAsSystem(A, async () => {
      expect(() => context.userId).toThrow(ContextMissingError);
    });
  });

  it('gives a job nothing of the request that started it, and the request nothing of the job', async () => {
    await cls.run(async () => {
      context.setPrincipal(user);
      context.setTenant(A, { all: false, groups: [], member: true });
      await context.runAsSystem(B, async () => expect(context.tenant).toEqual(B));
      expect(context.tenant).toEqual(A);
      expect(context.principal).toEqual(user);
    });
  });
});
