import { randomBytes } from 'node:crypto';
import type { Account, VerifyAnswer } from './verify-api.js';
import { type VerifyContext, type VerifyTest, outcomeOf } from './verify-context.js';
import { secretsIn } from './verify-foreign-ids.js';
import type { TestRecord } from './verify-record.js';
import { pathOf } from './verify-routes.js';
import { QUESTION, type ThrowAwayTenant } from './verify-tenants.js';

interface Passage {
  chunk_id: string;
  document_id: string;
  score: number;
  scores: unknown;
  text: string | null;
}

const SEARCH = 'POST /tenants/{tenant}/kbs/{kb}/search';
const QUERY = 'POST /tenants/{tenant}/kbs/{kb}/query';
const MODES = ['hybrid', 'vector', 'keyword'] as const;
const QUESTIONS = [QUESTION, 'When is the tide bell of the harbour rung?', 'Orrery lantern', 'harbour note'];
/** Documents of the neighbour, each with its copies of every question. */
const COPIES = 8;

/** T6: what a neighbour packs around a question changes no answer. */
export const neighbours: VerifyTest = async (context, record) => {
  const { world } = context;
  record.leftOut.add(
    'Both knowledge bases are small, and small ones are searched exactly: the approximate index of large ones was not tried.',
  );
  const before = await searches(context);
  const documents: string[] = [];
  for (let copy = 0; copy < COPIES; copy++) {
    const text = QUESTIONS.map(question => `# Copy ${copy}\n\n${question} ${question}`).join('\n\n');
    const title = `Copy ${copy}`;
    documents.push(await world.addText(world.b, world.b.ids['kb'] as string, text, { title }));
  }
  for (const document of documents) await world.ingested(world.b, world.b.ids['kb'] as string, document);
  compare(before, await searches(context), 'with the neighbour’s copies around it', record);
  const path = `/tenants/${world.b.id}/kbs/${world.b.ids['kb']}/documents/bulk-delete`;
  await world.b.owner.caller.must('POST', path, { document_ids: documents });
  compare(before, await searches(context), 'once the neighbour’s copies were gone', record);
  for (const mode of MODES) {
    const found = [...before].filter(([what, { length }]) => what.startsWith(mode) && length > 0);
    record.check(found.length > 0, () => ({
      where: SEARCH,
      who: `owner of a, ${mode} searches`,
      expected: 'passages of its own',
      got: 'none',
    }));
  }
};

async function searches({ world }: VerifyContext): Promise<Map<string, Passage[]>> {
  const found = new Map<string, Passage[]>();
  for (const mode of MODES) {
    for (const query of QUESTIONS) {
      const { passages } = await search(world.a, query, { mode });
      found.set(`${mode} search for “${query}”`, passages);
    }
  }
  return found;
}

async function search(
  { id, ids, owner }: ThrowAwayTenant,
  query: string,
  fields: Record<string, unknown> = {},
): Promise<{ passages: Passage[] }> {
  const path = `/tenants/${id}/kbs/${ids['kb']}/search`;
  const answer = await owner.caller.must('POST', path, { query, top_k: 20, ...fields });
  return answer as unknown as { passages: Passage[] };
}

function compare(
  before: ReadonlyMap<string, Passage[]>,
  after: ReadonlyMap<string, Passage[]>,
  when: string,
  record: TestRecord,
): void {
  const told = (passages: readonly Passage[] = []) =>
    JSON.stringify(passages.map(({ chunk_id, score, scores }) => [chunk_id, score, scores]));
  for (const [what, passages] of before) {
    const now = after.get(what) ?? [];
    record.check(told(passages) === told(now), () => ({
      where: SEARCH,
      who: `owner of a, ${what}, ${when}`,
      expected: `the same ${passages.length} passage(s) with the same scores`,
      got: passages.length === now.length ? 'other passages, or other scores' : `${now.length} passage(s)`,
    }));
  }
}

/** T7: what was remembered for one tenant does not come back for another. */
export const caches: VerifyTest = async (context, record) => {
  await answers(context, record);
  await entityTags(context, record);
  await settings(context, record);
  await permissions(context, record);
  await entered(context, record);
};

interface WireAnswer {
  cached: boolean;
  answer: string;
  passages: Passage[];
}

/** Both have a knowledge base with the same text, and ask it the same. */
async function answers(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  for (let round = 0; round < 3; round++) {
    const question = `When is the tide bell of the harbour rung, asks ${randomBytes(4).toString('hex')}?`;
    const ask = async (letter: 'a' | 'b'): Promise<WireAnswer> => {
      const path = `/tenants/${world[letter].id}/kbs/${world.twins[letter]}/query`;
      const body = { query: question, max_tokens: 64 };
      return (await world[letter].owner.caller.must('POST', path, body)) as unknown as WireAnswer;
    };
    await ask('a');
    const kept = await ask('a');
    const [theirs, found] = [await ask('b'), await search(world.b, question)];
    // What was never kept cannot come back, and shows nothing.
    if (kept.cached)
      record.check(!theirs.cached, () => ({
        where: QUERY,
        who: 'owner of b, with a question that only a has asked',
        expected: 'an answer that is made anew',
        got: 'a remembered one',
      }));
    else
      record.leftOut.add(
        'Some answer was not kept, and could not come back to somebody else: answers are not remembered here, or the model ' +
          'did not answer.',
      );
    const own = new Set(kept.passages.flatMap(({ chunk_id, document_id }) => [chunk_id, document_id]));
    for (const { passages } of [theirs, found]) {
      const shared = passages.filter(passage => own.has(passage.chunk_id) || own.has(passage.document_id));
      record.check(shared.length === 0, () => ({
        where: QUERY,
        who: 'owner of b, with a’s question word for word',
        expected: 'passages of b alone',
        got: `${shared.length} passage(s) of a`,
      }));
    }
    const again = await ask('a');
    // Made anew, a model may word it in another way.
    if (!kept.cached || !again.cached) continue;
    record.check(again.answer === kept.answer, () => ({
      where: QUERY,
      who: 'owner of a, after b has asked the same',
      expected: 'the answer of before',
      got: 'another one',
    }));
  }
}

/** Whoever knows the tag of somebody's answer does not learn that it is still the same. */
async function entityTags(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  const { owner } = world.people.b;
  const asked = context.routes.filter(
    ({ method, domain, parameters }) =>
      method === 'GET' && domain === 'tenant' && parameters.includes('tenant'),
  );
  let tagged = 0;
  await record.each(asked, async route => {
    const path = pathOf(route, world.a.ids);
    const theirs = await world.people.a.owner.caller.get(path);
    const kept = theirs.headers.get('cache-control') ?? '';
    record.check(!/\b(public|s-maxage)\b/.test(kept), () => ({
      where: route.key,
      who: owner.caller.name,
      expected: 'an answer that no proxy may keep for others',
      got: `Cache-Control: ${kept}`,
    }));
    const tag = theirs.headers.get('etag');
    if (tag === null) return;
    tagged++;
    const headers = { 'if-none-match': tag, 'if-modified-since': new Date().toUTCString() };
    const answer = await owner.caller.send('GET', path, { headers });
    record.check(answer.status === 404 && secretsIn(context, answer).length === 0, () => ({
      where: route.key,
      who: `${owner.caller.name}, with the entity tag of a’s answer`,
      expected: '404',
      got: outcomeOf(answer),
    }));
  });
  if (tagged === 0) record.leftOut.add('No answer had an entity tag here: none could be asked with.');
}

/** What one tenant sets holds for it alone, at once. */
async function settings(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  const route = context.routes.find(({ key }) => key === 'GET /tenants/{tenant}/config');
  if (!route) {
    record.leftOut.add('The server has no GET /tenants/{tenant}/config: settings were not tried.');
    return;
  }
  const read = async ({ ids, owner }: ThrowAwayTenant) => (await owner.caller.get(pathOf(route, ids))).text;
  const [config, count] = [await read(world.b), await counted(world.b)];
  for (const top_k of [1, null]) {
    await world.a.owner.caller.must('PATCH', `/tenants/${world.a.id}/config`, { top_k });
    const ofA = await counted(world.a);
    record.check(top_k === null ? ofA > 1 : ofA === 1, () => ({
      where: SEARCH,
      who: 'owner of a, after a has changed top_k',
      expected: 'what a has set',
      got: `${ofA} passage(s)`,
    }));
    const same = (await read(world.b)) === config && (await counted(world.b)) === count;
    record.check(same, () => ({
      where: 'GET /tenants/{tenant}/config',
      who: 'owner of b, after a has changed its settings',
      expected: 'the settings of before',
      got: 'others',
    }));
  }
}

/** Somebody with another role in each tenant may in each what that role may, whichever was asked for first. */
async function permissions({ world }: VerifyContext, record: TestRecord): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const [tenant, expected] of [
      [world.b, 200],
      [world.a, 403],
    ] as const) {
      const answer = await readGrants(world.people.both, tenant);
      record.check(answer.status === expected, () => ({
        where: 'GET /tenants/{tenant}/kbs/{kb}/grants',
        who: `a member of both, who is ${expected === 200 ? 'editor' : 'viewer'} in this one`,
        expected: String(expected),
        got: outcomeOf(answer),
      }));
    }
  }
}

/** Whoever is a member of both sees in each what is in it, whichever was entered before. */
async function entered({ world }: VerifyContext, record: TestRecord): Promise<void> {
  for (const [tenant, other] of [
    [world.b, world.a],
    [world.a, world.b],
    [world.b, world.a],
  ] as const) {
    const answer = await world.people.both.caller.get(`/tenants/${tenant.id}/kbs`);
    const [own, theirs] = [tenant, other].map(({ ids }) => answer.text.includes(ids['kb'] as string));
    record.check(answer.status === 200 && own === true && theirs === false, () => ({
      where: 'GET /tenants/{tenant}/kbs',
      who: 'a member of both, in one after the other',
      expected: 'the knowledge bases of this one alone',
      got: theirs ? 'some of the other' : outcomeOf(answer),
    }));
  }
}

const readGrants = (account: Account, { id, ids }: ThrowAwayTenant): Promise<VerifyAnswer> =>
  account.caller.get(`/tenants/${id}/kbs/${ids['kb']}/grants`);

/** Passages that a search finds whose settings are the tenant's. */
async function counted({ id, ids, owner }: ThrowAwayTenant): Promise<number> {
  const path = `/tenants/${id}/kbs/${ids['kb']}/search`;
  const { passages } = await owner.caller.must('POST', path, { query: QUESTION });
  return (passages as unknown[]).length;
}
