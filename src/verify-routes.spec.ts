import { describe, expect, it } from 'vitest';
import { bodyOf, pathOf, routesOf } from './verify-routes.js';

const access = (permission: string | null, domain: string | null) => ({
  'x-permission': { permission, domain, tokens: true },
});
const asks = {
  requestBody: { content: { 'application/json': { schema: { $ref: '#/components/schemas/Q' } } } },
};

const routes = routesOf({
  paths: {
    '/api/v1/tenants/{tenant}/kbs/{kb}': {
      get: {
        ...access('kb:read', 'tenant_<id>'),
        parameters: [
          { name: 'kb_id', in: 'query', schema: { format: 'uuid' } },
          { name: 'kb', in: 'path', schema: { format: 'uuid' } },
          { name: 'page', in: 'query', schema: {} },
        ],
      },
      delete: access('kb:delete', 'tenant_<id>'),
    },
    '/api/v1/tenants/{tenant}/kbs/{kb}/search': { post: { ...access('query:run', 'tenant_<id>'), ...asks } },
    '/api/v1/tenants/{tenant}/groups': {
      post: { ...access('tenant:manage_members', 'tenant_<id>'), ...asks },
    },
    '/api/v1/health': { get: access(null, null) },
    '/docs': { get: {} },
  },
  components: { schemas: { Q: { properties: { query: {} } } } },
});
const [kb, search] = routes;

describe('routesOf', () => {
  it('finds what reads, and nothing that changes', () => {
    expect(routes.map(({ key }) => key)).toEqual([
      'GET /tenants/{tenant}/kbs/{kb}',
      'POST /tenants/{tenant}/kbs/{kb}/search',
      'GET /health',
    ]);
    expect(kb).toMatchObject({
      parameters: ['tenant', 'kb'],
      idQueries: ['kb_id'],
      permission: 'kb:read',
      domain: 'tenant',
      tokens: true,
      question: null,
    });
    expect(search).toMatchObject({ question: 'query', answers: false });
    expect(routes[2]).toMatchObject({ permission: null, domain: null });
  });

  it('makes requests of them', () => {
    expect(pathOf(kb!, { tenant: 'a/b', kb: 'x' })).toBe('/tenants/a%2Fb/kbs/x');
    expect(bodyOf(kb!, 'who?')).toBeUndefined();
    expect(bodyOf(search!, 'who?', { top_k: 3 })).toEqual({ query: 'who?', mode: 'keyword', top_k: 3 });
  });
});
