import { Caller, type Sent, type VerifyAnswer } from './verify-api.js';
import { type VerifyContext, type VerifyTest, outcomeOf } from './verify-context.js';
import { issueToken } from './verify-credentials.js';
import type { TestRecord } from './verify-record.js';
import { type MarkedDocument, QUESTION } from './verify-tenants.js';

/** Somebody, and the documents that they may see. */
interface Subject {
  caller: Caller;
  sees: ReadonlyArray<MarkedDocument['name']>;
}

/** One way to what documents hold. */
interface Surface {
  name: string;
  /** The route, as the API document spells it. */
  key: string;
  /** Below the tenant where it begins with `~`. */
  path: (document: MarkedDocument) => string;
  sent?: (document: MarkedDocument) => Sent;
  /** Whether an answer shows the document. */
  shows: (answer: VerifyAnswer, document: MarkedDocument) => boolean;
}

const KB = '/tenants/{tenant}/kbs/{kb}';
const kbPath = (rest: string) => (document: MarkedDocument) => `~/kbs/${document.kb}${rest}`;
const documentPath = (rest: string) => (document: MarkedDocument) =>
  `~/kbs/${document.kb}/documents/${document.id}${rest}`;
const hasId = ({ status, text }: VerifyAnswer, { id }: MarkedDocument) => status === 200 && text.includes(id);
const hasMarker = ({ status, text }: VerifyAnswer, { marker }: MarkedDocument) =>
  status === 200 && text.includes(marker);
const isThere = ({ status }: VerifyAnswer) => status === 200;
/** Enough of an answer: what it rests on is told beside it. */
const ASKED = { top_k: 20, max_tokens: 64 };
const asking =
  (field: 'query' | 'message', more: Record<string, unknown> = {}) =>
  (): Sent => ({ body: { [field]: QUESTION, ...more } });

const SURFACES: readonly Surface[] = [
  { name: 'list', key: `GET ${KB}/documents`, path: kbPath('/documents'), shows: hasId },
  {
    name: 'document',
    key: `GET ${KB}/documents/{document}`,
    path: documentPath(''),
    shows: isThere,
  },
  {
    name: 'chunks',
    key: `GET ${KB}/documents/{document}/chunks`,
    path: documentPath('/chunks'),
    shows: hasMarker,
  },
  {
    name: 'download',
    key: `GET ${KB}/documents/{document}/content`,
    path: documentPath('/content'),
    shows: hasMarker,
  },
  {
    name: 'versions',
    key: `GET ${KB}/documents/{document}/versions`,
    path: documentPath('/versions'),
    shows: isThere,
  },
  { name: 'job', key: 'GET /jobs/{job}', path: ({ id }) => `/jobs/${id}`, shows: isThere },
  {
    name: 'events of its job',
    key: 'GET /jobs/{job}/events',
    path: ({ id }) => `/jobs/${id}/events`,
    shows: isThere,
  },
  ...(['hybrid', 'keyword', 'vector', 'mix'] as const).map((mode): Surface => ({
    name: `search (${mode})`,
    key: `POST ${KB}/search`,
    path: kbPath('/search'),
    sent: asking('query', { mode, top_k: 20 }),
    shows: hasMarker,
  })),
  {
    name: 'answer',
    key: `POST ${KB}/query`,
    path: kbPath('/query'),
    sent: asking('query', ASKED),
    shows: hasMarker,
  },
  {
    name: 'streamed answer',
    key: `POST ${KB}/query`,
    path: kbPath('/query'),
    sent: asking('query', { ...ASKED, stream: true }),
    shows: hasMarker,
  },
  {
    name: 'answer from several knowledge bases',
    key: 'POST /tenants/{tenant}/query',
    path: () => '~/query',
    sent: asking('query', ASKED),
    shows: hasMarker,
  },
  {
    name: 'chat',
    key: `POST ${KB}/chat`,
    path: kbPath('/chat'),
    sent: asking('message', ASKED),
    shows: hasMarker,
  },
  {
    name: 'streamed chat',
    key: `POST ${KB}/chat`,
    path: kbPath('/chat'),
    sent: asking('message', { ...ASKED, stream: true }),
    shows: hasMarker,
  },
  {
    name: 'chat at the one address',
    key: 'POST /chat',
    path: () => '/chat',
    sent: document => ({
      body: { message: QUESTION, ...ASKED },
      headers: { 'x-kb-id': document.kb },
    }),
    shows: hasMarker,
  },
  {
    name: 'entities of the graph',
    key: `GET ${KB}/graph/entities`,
    path: kbPath('/graph/entities'),
    sent: () => ({ query: { page_size: '100' } }),
    shows: ({ status, text }, { entity }) => status === 200 && text.includes(entity),
  },
  {
    name: 'whole graph',
    key: `GET ${KB}/graph/relations`,
    path: kbPath('/graph/relations'),
    sent: () => ({ query: { page_size: '100' } }),
    shows: ({ status, text }, { entity }) => status === 200 && text.includes(entity),
  },
];

/** Routes that show nothing of documents, or what the first test asks them for. */
const NO_SURFACES = new Set([
  `GET ${KB}/documents/{document}/acl`,
  `GET ${KB}/graph`,
  `GET ${KB}/graph/entities/{entity}`,
  `GET ${KB}/graph/entities/{entity}/neighbours`,
]);

/** T4: whoever may see a document sees it everywhere, and nobody else anywhere. */
export const surfaces: VerifyTest = async (context, record) => {
  const { world, routes } = context;
  for (const { key, permission } of routes) {
    const shows = ['document:read', 'query:run', 'graph:read'].includes(permission ?? '');
    if (shows && !NO_SURFACES.has(key) && !SURFACES.some(surface => surface.key === key))
      record.leftOut.add(
        `This command does not know what ${key} shows of documents; update it with the server.`,
      );
  }
  const there = new Set(routes.map(({ key }) => key));
  const known = SURFACES.filter(({ key }) => there.has(key));
  for (const { key } of SURFACES.filter(surface => !known.includes(surface)))
    record.leftOut.add(`The server has no ${key}, which this command knows; update it with the server.`);
  const subjects = await subjectsOf(context);
  const asked = subjects.flatMap(subject =>
    known.flatMap(surface => world.documents.map(document => ({ subject, surface, document }))),
  );
  await record.each(once(asked), async ({ subject, surface, document }) => {
    const answer = await ask(context, subject.caller, surface, document);
    for (const other of covered(context, surface, document)) judge(record, subject, surface, other, answer);
  });
};

interface Asked {
  subject: Subject;
  surface: Surface;
  document: MarkedDocument;
}

/** A request that several documents share is sent once: each answer may have its price. */
function once(asked: readonly Asked[]): Asked[] {
  const sent = new Set<string>();
  return asked.filter(({ subject, surface, document }) => {
    const key = JSON.stringify([
      subject.caller.name,
      surface.name,
      surface.path(document),
      surface.sent?.(document),
    ]);
    return !sent.has(key) && sent.add(key);
  });
}

/** Of which documents the answer to such a request is to be judged. */
function covered({ world }: VerifyContext, surface: Surface, document: MarkedDocument): MarkedDocument[] {
  const request = (of: MarkedDocument) => JSON.stringify([surface.path(of), surface.sent?.(of)]);
  return world.documents.filter(other => request(other) === request(document));
}

function judge(
  record: TestRecord,
  { caller, sees }: Subject,
  surface: Surface,
  document: MarkedDocument,
  answer: VerifyAnswer,
): void {
  const may = sees.includes(document.name);
  const shown = surface.shows(answer, document);
  record.check(shown === may, () => ({
    where: surface.key,
    who: `${caller.name}, ${surface.name}, ${document.name} document`,
    expected: may ? 'shown, as everywhere else' : 'not shown, as everywhere else',
    got: shown ? 'shown' : `not shown (${outcomeOf(answer)})`,
  }));
}

function ask(
  { world }: VerifyContext,
  caller: Caller,
  { path, sent, key }: Surface,
  document: MarkedDocument,
): Promise<VerifyAnswer> {
  const { headers = {}, ...rest } = sent?.(document) ?? {};
  return caller.send(key.split(' ')[0] as string, path(document).replace(/^~/, `/tenants/${world.a.id}`), {
    ...rest,
    headers: { ...(path(document).startsWith('/chat') && { 'x-tenant-id': world.a.id }), ...headers },
  });
}

async function subjectsOf(context: VerifyContext): Promise<Subject[]> {
  const { world, server } = context;
  const { owner, reader, viewer } = world.people.a;
  const openKb = world.a.ids['kb'];
  const scopes = ['kb:read', 'document:read', 'query:run', 'graph:read', 'chat:own'];
  const whole = await issueToken(context, 'a', owner, { scopes });
  const kept = await issueToken(context, 'a', owner, { scopes, kb_ids: [openKb] });
  return [
    { caller: owner.caller, sees: ['open', 'restricted', 'closed'] },
    { caller: reader.caller, sees: ['open', 'restricted', 'closed'] },
    { caller: viewer.caller, sees: ['open'] },
    {
      caller: Caller.bearer(server, 'API token for one knowledge base of a', kept.secret),
      sees: ['open', 'restricted'],
    },
    {
      caller: Caller.bearer(server, 'API token of the owner of a', whole.secret),
      sees: ['open', 'restricted', 'closed'],
    },
    { caller: world.people.b.owner.caller, sees: [] },
    { caller: await context.tokenOfB(null), sees: [] },
    { caller: world.people.stranger.caller, sees: [] },
    { caller: new Caller(server, 'nobody'), sees: [] },
  ];
}
