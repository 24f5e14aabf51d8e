/** Creates an upload, whose stream can be sent once. */
const upload = (): FormData => {
  const form = new FormData();
  form.append(
    'file',
    new Blob(['# Uploaded\n\nA file of the tests.'], { type: 'text/markdown' }),
    'uploaded.md',
  );
  return form;
};

/** A small valid body for every route that takes one, by `METHOD /path`. */
export const EXAMPLE_BODIES: Record<string, () => Record<string, unknown> | FormData> = {
  'POST /auth/register': () => ({
    email: `new-${crypto.randomUUID()}@example.com`,
    password: 'a password of some length',
  }),
  'POST /auth/login': () => ({ email: 'nobody@example.com', password: 'a password of some length' }),
  'POST /auth/refresh': () => ({ refresh_token: 'no refresh token' }),
  'PATCH /auth/me': () => ({ timezone: 'Europe/Zurich' }),
  'POST /auth/switch-tenant': () => ({ tenant: 'no-such-tenant' }),
  'POST /tenants': () => ({ name: `t-${crypto.randomUUID().slice(0, 8)}` }),
  'PATCH /tenants/:tenant': () => ({ description: 'changed by a test' }),
  'PUT /tenants/:tenant': () => ({ display_name: 'Replaced', description: '', settings: {}, metadata: {} }),
  'POST /tenants/:tenant/members': () => ({ email: 'nobody@example.com', role: 'viewer' }),
  'PUT /tenants/:tenant/members/:user': () => ({ role: 'viewer' }),
  'PATCH /tenants/:tenant/members/:user': () => ({ role: 'viewer' }),
  'POST /tenants/:tenant/kbs': () => ({ name: `Kb ${crypto.randomUUID()}` }),
  'PATCH /tenants/:tenant/kbs/:kb': () => ({ description: 'changed by a test' }),
  'PUT /tenants/:tenant/kbs/:kb': () => ({
    name: 'Replaced',
    slug: 'replaced',
    description: '',
    config: {},
    is_active: true,
  }),
  'POST /tenants/:tenant/kbs/:kb/documents': upload,
  'POST /tenants/:tenant/kbs/:kb/documents/text': () => ({
    text: `A text of the tests, ${crypto.randomUUID()}.`,
  }),
  'PATCH /tenants/:tenant/kbs/:kb/documents/:document': () => ({ title: 'Changed by a test' }),
  'POST /tenants/:tenant/kbs/:kb/search': () => ({ query: 'warranty', mode: 'keyword' }),
  'POST /tenants/:tenant/kbs/:kb/query': () => ({ query: 'warranty', mode: 'keyword' }),
};
