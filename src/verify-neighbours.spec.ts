import { describe, expect, it } from 'vitest';
import type { Account } from './verify-api.js';
import type { VerifyContext } from './verify-context.js';
import { caches } from './verify-neighbours.js';
import { TestRecord } from './verify-record.js';

const silent = { begin: () => undefined, plan: () => undefined, step: () => undefined };

/** T7 against a server that remembers answers, or does not, or remembers them for everybody. */
async function triedOn(kept: 'by tenant' | 'never' | 'for everybody', entered = (tenant: string) => tenant) {
  let answers = 0;
  const remembered = new Map<string, string>();
  const query = (tenant: string, question: string) => {
    const key = kept === 'for everybody' ? question : `${tenant} ${question}`;
    const before = kept === 'never' ? undefined : remembered.get(key);
    // A chat model words each in another way.
    const answer = before ?? `Wording ${++answers}`;
    remembered.set(key, answer);
    return { cached: before !== undefined, answer, passages: [] };
  };
  const tenant = (id: string) => ({
    id,
    ids: { kb: `kb-of-${id}` },
    owner: {
      caller: {
        must: (_: string, path: string, { query: question }: { query: string }) =>
          Promise.resolve(path.endsWith('/query') ? query(id, question) : { passages: [] }),
      },
    } as unknown as Account,
  });
  const both = {
    caller: {
      get: (path: string) =>
        Promise.resolve(
          path.endsWith('/kbs')
            ? { status: 200, text: `kb-of-${entered(path.split('/')[2] as string)}` }
            : { status: path.includes('/b/') ? 200 : 403, body: {} },
        ),
    },
  };
  const b = tenant('b');
  const twins = { a: 'twin-of-a', b: 'twin-of-b' };
  const world = { a: tenant('a'), b, twins, people: { b: { owner: b.owner }, both } };
  const record = new TestRecord('T7', silent, new AbortController().signal);
  await caches({ world, routes: [] } as unknown as VerifyContext, record);
  return record.result;
}

describe('T7 of the command', () => {
  it('holds where answers are kept for each tenant', async () => {
    const { failures, left_out: leftOut } = await triedOn('by tenant');
    expect(failures).toEqual([]);
    expect(leftOut.join()).not.toContain('not kept');
  });

  it('does not fail where none is kept and a model words each anew, and says that this was not tried', async () => {
    const { failures, left_out: leftOut } = await triedOn('never');
    expect(failures).toEqual([]);
    expect(leftOut.join()).toContain('was not kept');
    expect(leftOut.join()).toContain('No answer had an entity tag');
  });

  it('fails where what was kept for one comes back to the other', async () => {
    const { failures } = await triedOn('for everybody');
    expect(failures.map(({ got }) => got)).toEqual(Array(3).fill('a remembered one'));
  });

  it('fails where whoever is a member of both stays in the tenant that was entered first', async () => {
    const { failures } = await triedOn('by tenant', () => 'b');
    expect(failures).toEqual([
      expect.objectContaining({ where: 'GET /tenants/{tenant}/kbs', got: 'some of the other' }),
    ]);
  });
});
