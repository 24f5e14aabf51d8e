import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { BackgroundJobs, JobPause } from '../../src/core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../src/core/tenancy/tenant-database.js';
import { EvaluationTrials } from '../../src/features/evaluation/evaluation-trials.service.js';
import { EvaluationsRepository } from '../../src/features/evaluation/evaluations.repository.js';
import type { Tx } from '../../src/foundation/database/transaction.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { tenantAudit } from '../setup/tenant-audit.js';
import { storedUsage, usageOf } from '../setup/usage-events.js';

interface Person {
  id: string;
  client: Client;
}

let model: ModelServer;
let app: TestApplication;
let owner: Person;
/** Editors; only one of them may read the restricted document. */
let listed: Person;
let outsider: Person;
let secret: string;
let tenantId: string;

const PATH = '/tenants/acme/kbs/docs/evaluations';
const SECRET = 'The merger with Zephyr Industries happens in May.';

/** Whose answers are known. */
const QUESTIONS = [
  {
    question: 'How long is the warranty on frames?',
    relevant: [{ title: 'Warranty' }],
    answers: ['ten years'],
  },
  { question: 'How often are chains oiled?', relevant: [{ source: 'handbook/care.md' }], answers: ['month'] },
  { question: 'When does the canteen open?', answers: ['at noon'] },
  { question: 'Who won the cup of 1950 in volleyball?', answerable: false },
];
const SEARCH = { name: 'search', mode: 'keyword', answer: false };

beforeAll(async () => {
  model = await startModelServer();
  const { respond } = model;
  model.respond = (messages, chat) =>
    messages.at(-1)?.content.includes('volleyball') ? 'NOT_FOUND' : respond(messages, chat);
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub-chat',
  });
  tenantId = (await app.createTenant('acme')).id;
  await app.createTenant('other');
  owner = await app.createMember('acme', 'owner');
  listed = await app.createMember('acme', 'editor');
  outsider = await app.createMember('acme', 'editor');
  await app.addText('acme', 'Frames carry a warranty of ten years.', { title: 'Warranty' });
  await app.addText('acme', 'Chains are oiled once a month.', {
    title: 'Care',
    source_id: 'handbook/care.md',
  });
  await app.addText('acme', 'The canteen opens at noon.', { title: 'Canteen' });
  secret = (await app.addText('acme', SECRET, { title: 'Plans', acl: { members: [listed.id], groups: [] } }))
    .id;
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});
afterEach(() => {
  model.latency = 0;
  vi.restoreAllMocks();
});

const service = <T>(type: new (...parameters: never[]) => T) =>
  app.application.nest.get<T>(type, { strict: false });
const asPlatform = <T>(work: (tx: Tx) => Promise<T>) =>
  service(TenantContext).runAsSystem(null, () => service(PlatformDatabase).run(work));

const start = async (body: Record<string, unknown>, as = owner.client, path = PATH) =>
  (await expectStatus(202, as.post(path, body))).body;

async function untilEnded(id: string, path = PATH): Promise<any> {
  for (let waited = 0; waited < 40_000; waited += 50) {
    const { body } = await expectStatus(200, app.admin.get(`${path}/${id}`));
    if (!['queued', 'running'].includes(body.status)) return body;
    await sleep(50);
  }
  throw new Error(`The evaluation ${id} has not ended in 40 s.`);
}

/** As soon as some questions have been asked. */
async function untilBegun(id: string): Promise<void> {
  for (let waited = 0; waited < 20_000; waited += 20) {
    const { body } = await expectStatus(200, app.admin.get(`${PATH}/${id}`));
    if (body.progress > 0) return;
    await sleep(20);
  }
  throw new Error(`The evaluation ${id} has not begun in 20 s.`);
}

const run = async (body: Record<string, unknown>, as = owner.client) =>
  untilEnded((await start(body, as)).id);
const results = async (id: string, query = '', as = owner.client) =>
  (await expectStatus(200, as.get(`${PATH}/${id}/results${query}`))).body;
/** So many that it can be met in the middle. */
const many = (count: number) =>
  Array.from({ length: count }, (_, n) => ({
    question: `How long is the warranty on frames, asked for the ${n}th time?`,
    answers: ['ten years'],
  }));

describe('an evaluation', () => {
  let ended: any;

  beforeAll(async () => {
    const { headers, body, status } = await owner.client.post(PATH, {
      name: 'First',
      questions: QUESTIONS,
      variants: [{ name: 'hybrid', top_k: 5 }, SEARCH],
    });
    expect(status).toBe(202);
    expect(headers.get('location')).toBe(`/api/v1${PATH}/${body.id}`);
    expect(body).toMatchObject({ name: 'First', question_count: 4, created_by: owner.id, token_id: null });
    ended = await untilEnded(body.id);
  });

  it('asks all questions in all variants, and measures', () => {
    expect(ended).toMatchObject({ status: 'done', progress: 1, error: null });
    const [hybrid, search] = ended.figures;
    expect(hybrid).toMatchObject({
      variant: 'hybrid',
      questions: 4,
      failed: 0,
      judged: 3,
      recall_at_5: 1,
      recall_at_10: 1,
      mrr_at_10: 1,
      ndcg_at_10: 1,
      answered_answerable: 1,
      answered_unanswerable: 0,
      gold_in_answer: 1,
      citation_precision: 1,
      models: ['stub-chat'],
    });
    expect(hybrid.latency_ms.p50).toBeGreaterThan(0);
    expect(hybrid.latency_ms.p95).toBeGreaterThanOrEqual(hybrid.latency_ms.p50);
    expect(search).toMatchObject({
      variant: 'search',
      judged: 3,
      ndcg_at_10: 1,
      answered: null,
      citation_precision: null,
      models: [],
    });
  });

  it('says what held when it began', () => {
    expect(ended.settings).toMatchObject({ embedding_model: 'stub', top_k: 10, chunk_size: 1200 });
    expect(ended.settings).not.toHaveProperty('system_prompt');
    expect(ended.variants).toMatchObject([
      { name: 'hybrid', mode: 'hybrid', top_k: 5, answer: true },
      SEARCH,
    ]);
  });

  it('shows what came of each question, without any text of a document', async () => {
    const page = await results(ended.id, '?page_size=3');
    expect(page.total).toBe(8);
    expect(page.items.map(({ position, variant }: any) => [position, variant])).toEqual([
      [0, 'hybrid'],
      [0, 'search'],
      [1, 'hybrid'],
    ]);
    const [first] = page.items;
    expect(first).toMatchObject({
      question: QUESTIONS[0]?.question,
      ranking: { recall_at_5: 1, mrr_at_10: 1 },
      answer: { answered: true, holds_gold: true, citations: 1, right_citations: 1, model: 'stub-chat' },
      error: null,
    });
    expect(Object.keys(first.passages[0]).toSorted()).toEqual(['chunk_id', 'document_id']);
    expect(JSON.stringify(page)).not.toContain('Frames carry');
    expect((await results(ended.id, '?variant=search')).items.map(({ answer }: any) => answer)).toEqual([
      null,
      null,
      null,
      null,
    ]);
    expectProblem(await owner.client.get(`${PATH}/${ended.id}/results?variant=x`), 422, 'validation_failed');
  });

  it('stands beside those that asked the same questions', async () => {
    const again = await run({ name: 'Second', questions: QUESTIONS, variants: [SEARCH] });
    await run({ name: 'Something else', questions: many(1), variants: [SEARCH] });
    expect(again.question_set).toBe(ended.question_set);
    const { body } = await expectStatus(
      200,
      owner.client.get(`${PATH}?question_set=${ended.question_set}&sort=-created_at`),
    );
    expect(body.items.map(({ name }: any) => name)).toEqual(['Second', 'First']);
    expect(body.items[1].figures).toEqual(ended.figures);
  });

  it('is a job that can be followed, and stands in the audit', async () => {
    const { body } = await expectStatus(200, owner.client.get(`/jobs/${ended.job_id}`));
    expect(body).toMatchObject({ kind: 'evaluation', status: 'succeeded', progress: 1 });
    const entries = await tenantAudit(app, tenantId, 'evaluation');
    expect(entries.find(({ resource_id }) => resource_id === ended.id)).toMatchObject({
      action: 'evaluation.started',
      actor_id: owner.id,
      details: { name: 'First', questions: 4, variants: ['hybrid', 'search'] },
    });
  });

  it('goes when it is deleted', async () => {
    const { id } = await run({ questions: many(1), variants: [SEARCH] });
    await expectStatus(204, owner.client.delete(`${PATH}/${id}`));
    expectProblem(await owner.client.get(`${PATH}/${id}`), 404, 'not_found');
    expectProblem(await owner.client.delete(`${PATH}/${id}`), 404, 'not_found');
  });
});

describe('what an evaluation asks', () => {
  it('is answered anew each time, and kept for nobody', async () => {
    const question = 'How long is the warranty on frames, for whoever asks twice?';
    const ask = async () =>
      (await expectStatus(200, owner.client.post('/tenants/acme/kbs/docs/query', { query: question }))).body;
    await ask();
    const before = model.requests.chat;
    await run({ questions: [{ question }], variants: [{ name: 'a' }, { name: 'b' }] });
    expect(model.requests.chat - before).toBe(2);
    expect((await ask()).cached).toBe(true);
    const another = 'How long is the warranty on frames, for whoever asks once?';
    await run({ questions: [{ question: another }] });
    const { body } = await owner.client.post('/tenants/acme/kbs/docs/query', { query: another });
    expect(body.cached).toBe(false);
  });

  it('that a model refuses is counted, and the others are asked', async () => {
    model.next({ for: 'chat', status: 400 });
    const { status, figures, id } = await run({ questions: many(3) });
    expect(status).toBe('done');
    expect(figures[0]).toMatchObject({ questions: 3, failed: 1, gold_in_answer: 1, answered: 1 });
    const { items } = await results(id);
    expect(items[0]).toMatchObject({ error: { code: 'model_rejected' }, answer: null, passages: [] });
    expect(items[1].error).toBeNull();
  });

  it('in a way that the knowledge base does not have is counted, too', async () => {
    const { status, figures } = await run({
      questions: many(2),
      variants: [{ name: 'graph', mode: 'graph' }, SEARCH],
    });
    expect(status).toBe('done');
    expect(figures).toMatchObject([
      { failed: 2, answered: null },
      { failed: 0, judged: 2 },
    ]);
  });

  it('is paid for and used like other questions', async () => {
    await app.admin.put('/prices', { prices: [{ operation: 'query', micro_credits: 5 }] });
    try {
      await expectStatus(
        201,
        app.admin.post('/tenants/acme/credits', { type: 'grant', amount: 12, note: 'For two questions' }),
      );
      const ended = await run({ questions: many(3), variants: [SEARCH] });
      expect(ended).toMatchObject({ status: 'failed', error: { code: 'insufficient_credits' } });
      // What was asked by then stays.
      expect(ended.figures).toMatchObject([{ questions: 2, failed: 0, credits: 10 }]);
      expect(ended.progress).toBeCloseTo(2 / 3);
    } finally {
      await app.admin.put('/prices', { prices: [{ operation: 'query', micro_credits: null }] });
    }
    await usageOf(app).flush();
    const events = (await storedUsage(app, tenantId)).filter(({ operation }) => operation === 'evaluation');
    expect(events.filter(({ credits }) => String(credits) === '5')).toMatchObject([
      { user_id: owner.id, outcome: 'success' },
      { user_id: owner.id, outcome: 'success' },
    ]);
  });
});

describe('whoever starts an evaluation', () => {
  it('may change the knowledge base, and ask it', async () => {
    const body = { questions: many(1), variants: [SEARCH] };
    const viewer = await app.createMember('acme', 'viewer');
    expectProblem(await viewer.client.post(PATH, body), 403, 'forbidden');
    const writes = await issueToken(app, owner.client, 'acme', { scopes: ['kb:read', 'kb:update'] });
    expectProblem(await writes.client.post(PATH, body), 403, 'forbidden');
    const agent = await expectStatus(
      201,
      owner.client.post('/tenants/acme/kbs/docs/agents', { name: 'Kept to' }),
    );
    const scopes = ['kb:read', 'kb:update', 'query:run'];
    const kept = await issueToken(app, owner.client, 'acme', { scopes, agent_ids: [agent.body.id] });
    expectProblem(await kept.client.post(PATH, body), 403, 'agents_only');
    const both = await issueToken(app, owner.client, 'acme', { scopes });
    expect(await run(body, both.client)).toMatchObject({
      status: 'done',
      created_by: null,
      token_id: both.id,
    });
  });

  it('finds what they may read, and nothing else', async () => {
    const body = {
      questions: [
        { question: 'When does the merger with Zephyr happen?', relevant: [{ document_id: secret }] },
      ],
      variants: [{ name: 'answers' }],
    };
    const found = await run(body, listed.client);
    expect(found.figures[0]).toMatchObject({ recall: 1, answered: 1, citation_precision: 1 });
    const notFound = await run(body, outsider.client);
    expect(notFound.figures[0]).toMatchObject({ recall: 0 });
    const own = JSON.stringify(await results(notFound.id, '', outsider.client));
    expect(own).not.toContain(secret);
    // What others have asked and found is theirs; the figures are for all.
    expectProblem(await outsider.client.get(`${PATH}/${found.id}/results`), 403, 'forbidden');
    expect((await results(found.id, '', listed.client)).items[0].passages[0].document_id).toBe(secret);
    // Whoever sees everything sees this, too.
    expect((await results(found.id)).total).toBe(1);
    const { body: page } = await expectStatus(200, outsider.client.get(PATH));
    expect(JSON.stringify(page)).not.toMatch(/Zephyr|May\./);
  });

  it('shows others neither how large the knowledge base is, nor prompts and filters', async () => {
    const filter = { metadata: { project: 'Zephyr' } };
    const variant = { ...SEARCH, filter, system_prompt: 'Zephyr is a secret.' };
    const { id } = await run({ questions: many(1), variants: [variant] }, listed.client);
    const seenBy = async ({ client }: Person) => {
      const { body: one } = await expectStatus(200, client.get(`${PATH}/${id}`));
      const { body: all } = await expectStatus(200, client.get(PATH));
      expect(all.items.find((item: any) => item.id === id)).toEqual(one);
      return one;
    };
    const own = await seenBy(listed);
    expect(own.variants).toMatchObject([variant]);
    const others = await seenBy(outsider);
    expect(JSON.stringify(others)).not.toContain('Zephyr');
    expect(others.variants).toMatchObject([SEARCH]);
    for (const { settings } of [own, others]) {
      expect(settings).toMatchObject({ top_k: 10 });
      expect(settings).not.toHaveProperty('document_count');
      expect(settings).not.toHaveProperty('chunk_count');
    }
    const everything = await seenBy(owner);
    expect(everything).toMatchObject({ variants: [variant], settings: { document_count: 4 } });
  });

  it.each([
    ['leave the tenant', (path: string) => expectStatus(204, owner.client.delete(path))],
    [
      'may only ask from then on',
      (path: string) => expectStatus(200, owner.client.patch(path, { role: 'viewer' })),
    ],
  ])('is asked again for their rights all the while, and stopped where they %s', async (_, change) => {
    const editor = await app.createMember('acme', 'editor');
    model.latency = 40;
    const { id } = await start({ questions: many(200) }, editor.client);
    await untilBegun(id);
    await change(`/tenants/acme/members/${editor.id}`);
    const ended = await untilEnded(id);
    expect(ended.status).toBe('failed');
    expect(['forbidden', 'not_found', 'starter_gone']).toContain(ended.error.code);
    expect(ended.figures[0].questions).toBeLessThan(200);
  });

  it('may be a token: when it is revoked, nobody asks', async () => {
    const scopes = ['kb:read', 'kb:update', 'query:run'];
    const token = await issueToken(app, owner.client, 'acme', { scopes });
    model.latency = 40;
    const { id } = await start({ questions: many(200) }, token.client);
    await untilBegun(id);
    expect((await results(id, '', token.client)).total).toBeGreaterThan(0);
    await expectStatus(204, owner.client.delete(`/tenants/acme/api-tokens/${token.id}`));
    const ended = await untilEnded(id);
    expect(ended).toMatchObject({ status: 'failed', error: { code: 'starter_gone' }, token_id: null });
    // What a token asks is not its creator's: here that is somebody who sees everything.
    expect((await results(id)).total).toBe(ended.figures[0].questions);
    expectProblem(await outsider.client.get(`${PATH}/${id}/results`), 403, 'forbidden');
  });

  it('is of the tenant', async () => {
    const foreign = await app.createMember('other', 'owner');
    const { id } = await start({ questions: many(1), variants: [SEARCH] });
    await untilEnded(id);
    const there = '/tenants/other/kbs/docs/evaluations';
    expectProblem(await foreign.client.get(`${PATH}/${id}`), 404, 'not_found');
    for (const answer of await Promise.all([
      foreign.client.get(`${there}/${id}`),
      foreign.client.get(`${there}/${id}/results`),
      foreign.client.post(`${there}/${id}/cancel`),
      foreign.client.delete(`${there}/${id}`),
    ]))
      expectProblem(answer, 404, 'not_found');
    expect((await foreign.client.get(there)).body).toMatchObject({ items: [], total: 0 });
    // A document of another tenant is relevant for nothing.
    const question = { question: 'warranty', relevant: [{ document_id: secret }] };
    const made = await start({ questions: [question], variants: [SEARCH] }, foreign.client, there);
    expect((await untilEnded(made.id, there)).figures[0]).toMatchObject({ judged: 1, recall: 0 });
  });
});

describe('an evaluation that is under way', () => {
  it('ends when it is cancelled, with what was asked by then', async () => {
    model.latency = 30;
    const { id } = await start({ questions: many(500) });
    await untilBegun(id);
    const { body } = await expectStatus(200, owner.client.post(`${PATH}/${id}/cancel`));
    expect(body).toMatchObject({ status: 'cancelled', error: null });
    expect(body.figures[0].questions).toBeGreaterThan(0);
    expect(body.figures[0].questions).toBeLessThan(500);
    const asked = (await results(id)).total;
    expect(asked).toBe(body.figures[0].questions);
    expectProblem(await owner.client.post(`${PATH}/${id}/cancel`), 409, 'already_ended');
    await sleep(500);
    const chats = model.requests.chat;
    await sleep(500);
    expect(model.requests.chat).toBe(chats);
    expect((await results(id)).total).toBe(asked);
    expect((await owner.client.get(`/jobs/${body.job_id}`)).body.status).toBe('cancelled');
  });

  it('ends with its job', async () => {
    model.latency = 30;
    const { id, job_id: job } = await start({ questions: many(500) });
    await untilBegun(id);
    await expectStatus(200, owner.client.post(`/jobs/${job}/cancel`));
    expect(await untilEnded(id)).toMatchObject({ status: 'cancelled' });
  });

  it('goes when it is deleted', async () => {
    model.latency = 30;
    const { id, job_id: job } = await start({ questions: many(500) });
    await untilBegun(id);
    await expectStatus(204, owner.client.delete(`${PATH}/${id}`));
    expectProblem(await owner.client.get(`${PATH}/${id}`), 404, 'not_found');
    expect((await owner.client.get(`/jobs/${job}`)).body.status).toBe('cancelled');
  });

  it('goes on after a restart, and asks nothing twice', async () => {
    const questions = many(60);
    model.latency = 10;
    const before = model.requests.chat;
    const { id } = await start({ questions });
    await untilBegun(id);
    await app.restart();
    owner.client = app.anonymous.withToken(owner.client.token);
    model.latency = 0;
    const ended = await untilEnded(id);
    expect(ended).toMatchObject({ status: 'done', progress: 1 });
    expect(ended.figures[0]).toMatchObject({ questions: 60, failed: 0, gold_in_answer: 1 });
    // At most the one that was under way.
    expect(model.requests.chat - before).toBeLessThanOrEqual(61);
    const page = await results(id, '?page_size=100');
    expect(new Set(page.items.map(({ question }: any) => question)).size).toBe(60);
  });

  it('goes on after a fault that nobody has reckoned with, at its last attempt, too', async () => {
    const trials = service(EvaluationTrials);
    const ask = trials.run.bind(trials);
    let asked = 0;
    vi.spyOn(trials, 'run').mockImplementation((...parameters) => {
      asked++;
      return asked === 1 || asked === 3 ? Promise.reject(new Error('Unknown')) : ask(...parameters);
    });
    const { id, job_id: job } = await start({ questions: many(2), variants: [SEARCH] });
    const left = 'UPDATE jobs SET attempts = 3 WHERE id = $1 AND attempts = 1 AND status = $2 RETURNING id';
    for (let waited = 0, found = 0; found === 0 && waited < 1_500; waited += 20) {
      await sleep(20);
      [, found] = await asPlatform<[unknown, number]>(tx => tx.query(left, [job, 'queued']));
    }
    expect(await untilEnded(id)).toMatchObject({ status: 'done', figures: [{ questions: 2, failed: 0 }] });
    expect(asked).toBe(4);
  });

  it('goes on where another worker has stored a step before it', async () => {
    const trials = service(EvaluationTrials);
    const ask = trials.run.bind(trials);
    let made: Promise<{ id: string }>;
    let first = true;
    vi.spyOn(trials, 'run').mockImplementation(async (...parameters) => {
      const outcome = await ask(...parameters);
      if (!first) return outcome;
      first = false;
      const { id: evaluation } = await made;
      await service(TenantDatabase).run(tx =>
        service(EvaluationsRepository).store(tx, evaluation, {
          step: 0,
          question: 0,
          variant: 0,
          outcome,
          givenUp: false,
        }),
      );
      return outcome;
    });
    made = start({ questions: many(3), variants: [SEARCH] });
    const { id } = await made;
    expect(await untilEnded(id)).toMatchObject({ status: 'done', figures: [{ questions: 3, failed: 0 }] });
  });

  it('leaves room for few others', async () => {
    model.latency = 200;
    const ids: string[] = [];
    const jobs: string[] = [];
    for (let n = 0; n < 5; n++) {
      const { id, job_id: job } = await start({ questions: many(200) });
      ids.push(id);
      jobs.push(job);
    }
    const running = async () => {
      const bodies = await Promise.all(jobs.map(async job => (await owner.client.get(`/jobs/${job}`)).body));
      return bodies.filter(({ status }) => status === 'running').length;
    };
    await expect.poll(running).toBe(1);
    // What waits for other people's servers beside them finds a place.
    await sleep(300);
    expect(await running()).toBe(1);
    expectProblem(await owner.client.post(PATH, { questions: many(1) }), 409, 'too_many_evaluations');
    for (const id of ids) await expectStatus(200, owner.client.post(`${PATH}/${id}/cancel`));
  });
});

describe('a job that pauses', () => {
  it('goes on by itself, as often as it likes, and faults before that do not count', async () => {
    const jobs = service(BackgroundJobs);
    const attempts: number[] = [];
    jobs.define<null>({
      kind: 'test.pausing',
      mostAttempts: 2,
      lane: 'outbound',
      run: job => {
        attempts.push(job.attempts);
        if (attempts.length === 1) throw new Error('A fault that passes.');
        if (attempts.length < 5) throw new JobPause(attempts.length === 2 ? 1 : 0);
        return Promise.resolve('done');
      },
    });
    const id = await asPlatform(tx =>
      jobs.enqueue(tx, {
        kind: 'test.pausing',
        payload: null,
        tenantId: null,
        permission: 'platform:tenants',
      }),
    );
    expect(await app.jobEnded(`/jobs/${id}`)).toMatchObject({ status: 'succeeded', error: null });
    expect(attempts).toEqual([0, 1, 0, 0, 0]);
  });

  it('takes turns with others of its tenant, where few are worked on at a time', async () => {
    const jobs = service(BackgroundJobs);
    const turns: string[] = [];
    jobs.define<string>({
      kind: 'test.turns',
      mostAttempts: 1,
      lane: 'outbound',
      mostPerTenant: 1,
      run: async ({ payload }) => {
        turns.push(payload);
        await sleep(100);
        if (turns.filter(name => name === payload).length < 3) throw new JobPause();
      },
    });
    const ids = await asPlatform(tx =>
      jobs.enqueueMany(
        tx,
        ['a', 'b'].map(payload => ({
          kind: 'test.turns',
          payload,
          tenantId,
          permission: 'kb:update' as const,
        })),
      ),
    );
    for (const id of ids)
      expect(await app.jobEnded(`/jobs/${id}`)).toMatchObject({ status: 'succeeded', error: null });
    expect(turns).toHaveLength(6);
    for (const [index, name] of turns.slice(1).entries()) expect(name).not.toBe(turns[index]);
  });
});

describe('bad input', () => {
  const question = { question: 'a' };

  it.each<[string, Record<string, unknown>, string]>([
    ['no questions', { questions: [] }, 'questions'],
    ['too many questions', { questions: Array.from({ length: 5_001 }, () => question) }, 'questions'],
    ['an empty question', { questions: [question, { question: ' ' }] }, 'questions.1.question'],
    ['an unknown field', { questions: [{ ...question, gold: 'b' }] }, 'questions.0.gold'],
    [
      'two names of one document',
      { questions: [{ ...question, relevant: [{ title: 'x', source: 'y' }] }] },
      'questions.0.relevant.0',
    ],
    ['nothing relevant', { questions: [{ ...question, relevant: [{}] }] }, 'questions.0.relevant.0'],
    ['no variants', { questions: [question], variants: [] }, 'variants'],
    [
      'variants of one name',
      { questions: [question], variants: [{ name: 'x' }, { name: 'x', top_k: 3 }] },
      'variants',
    ],
    ['an unknown mode', { questions: [question], variants: [{ name: 'x', mode: 'y' }] }, 'variants.0.mode'],
    [
      'a query of its own',
      { questions: [question], variants: [{ name: 'x', query: 'y' }] },
      'variants.0.query',
    ],
    ['top_k 0', { questions: [question], variants: [{ name: 'x', top_k: 0 }] }, 'variants.0.top_k'],
  ])('%s is refused', async (_, body, path) => {
    const answer = await owner.client.post(PATH, body);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors.map((error: { path: string }) => error.path)).toContain(path);
  });

  it('makes nothing', async () => {
    const { body } = await owner.client.get(`${PATH}?status=queued`);
    expect(body.total).toBe(0);
  });
});
