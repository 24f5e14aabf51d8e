import { describe, expect, it } from 'vitest';
import type { Caller, Sent, VerifyAnswer, VerifyServer } from './verify-api.js';
import type { VerifyContext } from './verify-context.js';
import { foreignIds } from './verify-foreign-ids.js';
import { TestRecord, type TestResult } from './verify-record.js';
import { routesOf } from './verify-routes.js';

const silent = { begin: () => undefined, plan: () => undefined, step: () => undefined };
const DOCUMENT = '/tenants/{tenant}/kbs/{kb}/documents/{document}';
const SEARCH = '/tenants/{tenant}/kbs/{kb}/search';

const access = (permission: string) => ({ 'x-permission': { permission, domain: 'tenant_<id>' } });
const routes = routesOf({
  paths: {
    [`/api/v1${DOCUMENT}`]: { get: access('document:read') },
    [`/api/v1${SEARCH}`]: {
      post: {
        ...access('query:run'),
        requestBody: {
          content: { 'application/json': { schema: { properties: { query: {}, filter: {} } } } },
        },
      },
    },
  },
});

/** Of each knowledge base: its tenant, its documents, and who sees it beside the owner. */
const KBS: Record<string, { tenant: string; documents: string[]; closed?: true }> = {
  'kb-a': { tenant: 'a', documents: ['document-a', 'restricted-a'] },
  'kb-closed': { tenant: 'a', documents: ['closed-a'], closed: true },
  'kb-b': { tenant: 'b', documents: ['document-b'] },
};

/** What a server answers: `holds` says whether a document is shown in the knowledge base of a tenant, to somebody. */
type Holds = (asked: { tenant: string; kb: string; document: string; isOwner: boolean }) => boolean;

const right: Holds = ({ tenant, kb, document, isOwner }) => {
  const found = KBS[kb];
  if (!found || found.tenant !== tenant || !found.documents.includes(document)) return false;
  return isOwner || (!found.closed && !document.startsWith('restricted'));
};
/** `WHERE kb_id = $1 AND id = $2`, and no tenant. */
const withoutTenant: Holds = ({ kb, document }) => KBS[kb]?.documents.includes(document) ?? false;
/** Who may see the knowledge base is asked of documents beside it, but not of it. */
const withoutGrants: Holds = asked => right({ ...asked, isOwner: asked.isOwner || asked.kb === 'kb-closed' });

/** `WHERE tenant_id = $1 AND id = $2`, and of the knowledge base only that it is there. */
const withoutKb: Holds = asked => asked.kb in KBS && Object.keys(KBS).some(kb => right({ ...asked, kb }));

async function triedOn(holds: Holds, others: (kb: string) => number = () => 200): Promise<TestResult> {
  const callerOf = (name: string, tenant: string, isOwner: boolean): Caller => {
    const send = (method: string, path: string, { body }: Sent = {}) => {
      const [, of, , kb = '', , document = ''] = path.slice(1).split('/');
      const found = KBS[kb];
      const allowed =
        method === 'POST'
          ? found?.tenant === of && (isOwner || !found?.closed)
          : holds({ tenant: of ?? '', kb, document, isOwner });
      const status =
        of !== tenant || !allowed
          ? 404
          : /filter|session_id|kbs/.test(JSON.stringify(body ?? ''))
            ? others(kb)
            : 200;
      return Promise.resolve(answerOf(status, status === 200 ? { id: document } : { code: 'not_found' }));
    };
    return { name, send, get: (path: string) => send('GET', path) } as unknown as Caller;
  };
  const person = (name: string, tenant: string, isOwner = false) => ({
    caller: callerOf(name, tenant, isOwner),
  });
  const context = {
    server: {} as VerifyServer,
    admin: callerOf('admin', '', false),
    routes,
    tokenOfB: () => Promise.resolve(callerOf('token', 'b', true)),
    world: {
      a: { id: 'a', name: 'tenant-a', ids: { tenant: 'a', kb: 'kb-a', document: 'document-a' } },
      b: { id: 'b', name: 'tenant-b', ids: { tenant: 'b', kb: 'kb-b', document: 'document-b' } },
      people: {
        a: { owner: person('owner of a', 'a', true), viewer: person('viewer of a', 'a') },
        b: { owner: person('owner of b', 'b', true), viewer: person('viewer of b', 'b') },
        stranger: person('stranger', ''),
      },
      closedKb: 'kb-closed',
      documents: [
        { name: 'restricted', id: 'restricted-a', kb: 'kb-a', entity: '' },
        { name: 'closed', id: 'closed-a', kb: 'kb-closed', entity: '' },
      ],
      secrets: new Map([['document-a', 'a document']]),
      userId: () => 'somebody',
    },
  } as unknown as VerifyContext;
  const record = new TestRecord('T1', silent, new AbortController().signal);
  await foreignIds(context, record);
  return record.result;
}

const answerOf = (status: number, body: Record<string, unknown>): VerifyAnswer => ({
  status,
  headers: new Headers(),
  text: JSON.stringify(body),
  body,
});

describe('T1 of the command', () => {
  it('holds where every part of a path is asked for', async () => {
    const { failures, cases } = await triedOn(right);
    expect(failures).toEqual([]);
    expect(cases).toBeGreaterThan(20);
  });

  it('notices a document that is found by its knowledge base, whatever the tenant', async () => {
    const { failures } = await triedOn(withoutTenant);
    const inOwnTenant = failures.filter(({ who }) => who.includes('below the own tenant'));
    expect(inOwnTenant.map(({ where, who }) => `${where}: ${who}`)).toEqual([
      `GET ${DOCUMENT}: owner of b, foreign kb and document below the own tenant`,
      `GET ${DOCUMENT}: viewer of b, foreign kb and document below the own tenant`,
    ]);
  });

  it('notices a document of a closed knowledge base', async () => {
    const { failures } = await triedOn(withoutGrants);
    expect(failures).toHaveLength(1);
    expect(failures[0]?.who).toContain('document of a knowledge base that is closed to this member');
  });

  it('notices a document that is found below another knowledge base', async () => {
    const { failures } = await triedOn(withoutKb);
    const below = failures.filter(({ who }) => who.startsWith('owner of a'));
    expect(below.map(({ where, who }) => `${where}: ${who}`)).toEqual([
      `GET ${DOCUMENT}: owner of a, foreign document, below another knowledge base`,
    ]);
  });

  it('notices that nobody is shown anything', async () => {
    const { failures } = await triedOn(() => false);
    expect(failures).toEqual([
      expect.objectContaining({ where: `GET ${DOCUMENT}`, expected: '200', got: '404 not_found' }),
    ]);
  });

  it('takes two errors of the server for no answer, though they are the same', async () => {
    const { failures } = await triedOn(right, () => 500);
    expect(failures).toEqual([expect.objectContaining({ where: `POST ${SEARCH}`, got: '500 not_found' })]);
  });

  it('sends no field to a route that has none of that name', async () => {
    const sent: string[] = [];
    await triedOn(right, kb => {
      sent.push(kb);
      return 200;
    });
    // `filter` twice, foreign and missing; neither `session_id` nor `kbs`.
    expect(sent).toEqual(['kb-b', 'kb-b']);
  });
});
