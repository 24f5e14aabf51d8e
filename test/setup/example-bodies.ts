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
  'POST /auth/change-password': () => ({
    current_password: 'not the password',
    new_password: 'a password of some length',
  }),
  'POST /auth/forgot-password': () => ({ email: `nobody-${crypto.randomUUID()}@example.com` }),
  'POST /auth/reset-password': () => ({ token: 'no token', new_password: 'a password of some length' }),
  'POST /users': () => ({ email: `new-${crypto.randomUUID()}@example.com`, display_name: 'Made by a test' }),
  'POST /users/:user/tenants': () => ({ tenant_id: 'no-such-tenant', role: 'viewer' }),
  'PATCH /users/:user': () => ({ display_name: 'Changed by a test' }),
  'POST /tenants': () => ({ name: `t-${crypto.randomUUID().slice(0, 8)}` }),
  'PATCH /tenants/:tenant': () => ({ description: 'changed by a test' }),
  'PUT /tenants/:tenant': () => ({ display_name: 'Replaced', description: '', settings: {}, metadata: {} }),
  'POST /tenant-templates': () => ({ name: `template-${crypto.randomUUID().slice(0, 8)}` }),
  'PUT /tenant-templates/:template': () => ({ description: 'changed by a test' }),
  'PUT /tenants/:tenant/quotas': () => ({ quotas: { max_agents: 1_000 } }),
  'PUT /tenants/:tenant/features': () => ({ features: { invitation_days: 5 } }),
  'PATCH /tenants/:tenant/config': () => ({ top_k: 7 }),
  'PUT /tenants/:tenant/variables/:variable': () => ({ value: 'a value of the tests' }),
  'POST /tenants/:tenant/members': () => ({ email: 'nobody@example.com', role: 'viewer' }),
  'PUT /tenants/:tenant/members/:user': () => ({ role: 'viewer' }),
  'PATCH /tenants/:tenant/members/:user': () => ({ role: 'viewer' }),
  'POST /tenants/:tenant/members/:user/roles': () => ({ role: 'viewer' }),
  'PATCH /tenants/:tenant/members/:user/roles/:role': () => ({ role: 'viewer' }),
  'POST /tenants/:tenant/members/bulk': () => ({
    users: [{ email: `bulk-${crypto.randomUUID()}@example.com`, role: 'viewer' }],
    dry_run: true,
  }),
  'POST /tenants/:tenant/members/import': () => {
    const form = new FormData();
    form.append('dry_run', 'true');
    form.append(
      'file',
      new Blob([`email,role\ncsv-${crypto.randomUUID()}@example.com,viewer\n`]),
      'people.csv',
    );
    return form;
  },
  'POST /tenants/:tenant/invitations': () => ({
    email: `invited-${crypto.randomUUID()}@example.com`,
    role: 'viewer',
  }),
  'POST /invitations/:token/accept': () => ({}),
  'POST /tenants/:tenant/roles': () => ({
    name: `role-${crypto.randomUUID().slice(0, 8)}`,
    permissions: ['tenant:read'],
  }),
  'PATCH /tenants/:tenant/roles/:role': () => ({ description: 'changed by a test' }),
  'PUT /tenants/:tenant/roles/:role': () => ({ description: '', permissions: ['tenant:read'] }),
  'POST /tenants/:tenant/api-tokens': () => ({
    name: `Token ${crypto.randomUUID()}`,
    scopes: ['query:run'],
  }),
  'PATCH /tenants/:tenant/api-tokens/:token': () => ({ rate_limit_per_minute: 50 }),
  'POST /tenants/:tenant/api-tokens/:token/rotate': () => ({ overlap_seconds: 60 }),
  'POST /tenants/:tenant/groups': () => ({ name: `Group ${crypto.randomUUID()}` }),
  'PATCH /tenants/:tenant/groups/:group': () => ({ description: 'changed by a test' }),
  'POST /tenants/:tenant/groups/:group/members': () => ({ user_ids: [crypto.randomUUID()] }),
  'PUT /tenants/:tenant/kbs/:kb/grants': () => ({ grants: [] }),
  'POST /tenants/:tenant/kbs/:kb/grants': () => ({ user_id: crypto.randomUUID(), role: 'viewer' }),
  'PUT /tenants/:tenant/kbs/:kb/documents/:document/acl': () => ({ acl: null }),
  // Of a model that no test uses: elsewhere nothing has a price.
  'PUT /prices': () => ({
    prices: [{ operation: 'output_tokens', model: 'no-such-model', micro_credits: 5 }],
  }),
  'POST /tenants/:tenant/credits': () => ({ type: 'grant', amount: 1000, note: 'Granted by a test' }),
  'PATCH /tenants/:tenant/credits': () => ({ low_threshold: 100 }),
  'POST /tenants/:tenant/alerts': () => ({
    metric: 'users',
    threshold: 1_000_000,
    threshold_type: 'absolute',
    action: 'webhook',
  }),
  'PATCH /tenants/:tenant/alerts/:alert': () => ({ threshold: 2_000_000 }),
  'POST /tenants/:tenant/models': () => ({
    provider: 'openai_compatible',
    model_type: 'chat',
    model_name: `model-${crypto.randomUUID()}`,
    api_base: 'https://models.invalid/v1',
    api_key: 'a-key-of-the-tests',
  }),
  'PATCH /tenants/:tenant/models/:model': () => ({ max_tokens: 4096 }),
  'PUT /tenants/:tenant/models/defaults': () => ({ tts: [] }),
  'POST /platform/models': () => ({
    provider: 'openai_compatible',
    model_type: 'tts',
    model_name: `model-${crypto.randomUUID()}`,
    api_base: 'https://models.invalid/v1',
  }),
  'PATCH /platform/models/:model': () => ({ max_tokens: 4096 }),
  'PUT /platform/models/defaults': () => ({ tts: [] }),
  'POST /tenants/:tenant/webhooks': () => ({ url: 'https://hooks.invalid/enclave', events: ['member.*'] }),
  'PATCH /tenants/:tenant/webhooks/:webhook': () => ({ description: 'changed by a test' }),
  'POST /tenants/:tenant/webhooks/:webhook/rotate-secret': () => ({ overlap_hours: 1 }),
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
  'POST /tenants/:tenant/kbs/:kb/documents/url': () => ({ url: 'https://pages.invalid/a' }),
  'POST /tenants/:tenant/kbs/:kb/documents/urls': () => ({ urls: ['https://pages.invalid/b'] }),
  'POST /tenants/:tenant/kbs/:kb/documents/bulk-delete': () => ({ document_ids: [crypto.randomUUID()] }),
  'POST /tenants/:tenant/kbs/:kb/documents/preview': () => ({ text: 'A text that nobody keeps.' }),
  'POST /upload': () => ({ url: 'https://pages.invalid/c' }),
  'PATCH /tenants/:tenant/kbs/:kb/documents/:document': () => ({ title: 'Changed by a test' }),
  'POST /tenants/:tenant/kbs/:kb/agents': () => ({ name: `Agent ${crypto.randomUUID()}` }),
  'PATCH /tenants/:tenant/kbs/:kb/agents/:agent': () => ({ description: 'changed by a test' }),
  'POST /tenants/:tenant/kbs/:kb/chat': () => ({ message: 'warranty', mode: 'keyword' }),
  'POST /chat': () => ({ message: 'warranty', mode: 'keyword' }),
  'PATCH /tenants/:tenant/sessions/:chat': () => ({ title: 'Changed by a test' }),
  'POST /messages/:message/feedback': () => ({ rating: 1 }),
  'POST /tenants/:tenant/kbs/:kb/search': () => ({ query: 'warranty', mode: 'keyword' }),
  'POST /tenants/:tenant/kbs/:kb/query': () => ({ query: 'warranty', mode: 'keyword' }),
  'POST /tenants/:tenant/kbs/:kb/evaluations': () => ({
    questions: [{ question: 'warranty', answers: ['two years'] }],
    variants: [{ name: 'words', mode: 'keyword', answer: false }],
  }),
  'POST /tenants/:tenant/query': () => ({ query: 'warranty', mode: 'keyword' }),
};
