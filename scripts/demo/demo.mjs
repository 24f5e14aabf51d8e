// npm run demo: shows what the product does, and checks everything that it shows.
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { BuildError, build } from '../build.mjs';
import { Api, DemoError } from './api.mjs';
import * as display from './display.mjs';
import { EmbeddedServer } from './embedded-server.mjs';
import { holdsTenant, openEmbedded, openServer, psql } from './psql.mjs';

const { bold, cyan, dim, green, heading, line, markers, paragraph, red, sideBySide, table } = display;

const USAGE = `Usage: npm run demo -- [options]

Without options, on a server of its own in a temporary folder, which is removed at the end.

  --stay               keep that server running until Ctrl-C
  --url <address>      use a server that runs, such as http://127.0.0.1:3000
  --email <address>    its platform admin; or PLATFORM_ADMIN_EMAIL
  --password <text>    and the password; or PLATFORM_ADMIN_PASSWORD, which no list of processes shows
  --keep               leave the two tenants on that server
`;

const KB = 'handbook';
const LONGEST_INGESTION_MS = 180_000;

const PLANS = [
  {
    folder: 'northwind-cycles',
    displayName: 'Northwind Cycles',
    person: 'Ada',
    about: 'bicycle maker',
  },
  { folder: 'harbor-clinic', displayName: 'Harbor Clinic', person: 'Ben', about: 'hospital' },
];
const QUESTIONS = JSON.parse(readFileSync(new URL('questions.json', import.meta.url), 'utf8'));

/** What has to be taken back at the end, in the order in which it was done. */
const undo = [];
const failures = [];
let checks = 0;
/** What could not be shown. */
let leftOut = '';
let interrupted = false;
/** The exit code, once everything has been shown. */
let concluded = null;

process.on('SIGINT', () => void interrupt(130)).on('SIGTERM', () => void interrupt(143));
// Whoever read the output has gone, as in `npm run demo | head`.
process.stdout.on('error', () => void interrupt(1));

function readOptions() {
  if (existsSync('.env')) process.loadEnvFile('.env');
  try {
    const { values } = parseArgs({
      options: {
        stay: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
        url: { type: 'string' },
        email: { type: 'string', default: process.env.PLATFORM_ADMIN_EMAIL },
        password: { type: 'string', default: process.env.PLATFORM_ADMIN_PASSWORD },
      },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      process.exit(0);
    }
    if (values.url && !URL.canParse(values.url))
      throw new Error('--url must be an address such as http://127.0.0.1:3000');
    if (values.url && !(values.email && values.password))
      throw new Error('--url needs --email and --password');
    if (values.url && values.stay) throw new Error('--stay is for the server that the demo starts itself');
    if (!values.url && values.keep)
      throw new Error('--keep is for a server that runs already, named with --url');
    return values;
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${USAGE}`);
    process.exit(2);
  }
}

async function run(options) {
  if (!options.url && !(await build())) {
    throw new DemoError('There is no dist/ and no compiler to make it. Run "npm install" first.');
  }
  line();
  line(bold('Enclave'));
  paragraph(
    'Two organizations keep their documents in one installation, in the same tables of one database. Both ask the ' +
      'same questions. Each must be answered from its own documents, and never from the other’s.',
  );

  const server = options.url ? null : new EmbeddedServer();
  if (server) undo.push(() => server.remove());
  const { url, admin } = server ? await startServer(server) : await useServer(options);
  const tenants = await createTenants(url, admin, options);
  await uploadDocuments(tenants);
  await askQuestions(tenants);
  await readAcross(tenants);
  await readAcrossInSql(tenants, server);
  if (options.stay) return stay(server, url);
  await cleanUp();
  process.exitCode = conclude();
  if (failures.length === 0) sayGoodbye(tenants, { ...options, url: options.url && url });
}

async function startServer(server) {
  heading('1  A server');
  const started = performance.now();
  const done = display.waiting('Starting the API with an embedded PostgreSQL …');
  const url = await server.start();
  done(`The API with an embedded PostgreSQL runs at ${cyan(url)} after ${seconds(started)}.`);
  line(dim('Its data is in a temporary folder, which goes when the demo ends.'));
  return { url, admin: await new Api(url).as('login', server.admin) };
}

async function useServer({ url, email, password }) {
  heading('1  A server');
  const origin = url.replace(/\/+$/, '');
  const admin = await new Api(origin).as('login', { email, password });
  const { version } = await admin.get('/version').catch(() => ({}));
  line(`Using the one at ${cyan(origin)}${version ? `, version ${version}` : ''}, as ${email}.`);
  return { url: origin, admin };
}

async function createTenants(url, admin, { url: isForeign, keep }) {
  heading('2  Two tenants');
  const suffix = isForeign ? `-${randomBytes(3).toString('hex')}` : '';
  const tenants = [];
  for (const plan of PLANS) {
    const name = `${plan.folder}${suffix}`;
    // Free tenants ask two questions at a time; here three are compared.
    const { id } = await admin.post('/tenants', { name, display_name: plan.displayName, plan_tier: 'pro' });
    if (isForeign && !keep) undo.push(() => admin.delete(`/tenants/${id}`));
    const email = `${plan.person.toLowerCase()}${suffix}@${plan.folder}.example`;
    const api = await new Api(url).as('register', {
      email,
      password: randomBytes(18).toString('base64url'),
      display_name: plan.person,
    });
    await admin.post(`/tenants/${id}/members`, { email, role: 'editor' });
    const kb = await api.post(`/tenants/${id}/kbs`, { name: 'Handbook', slug: KB });
    tenants.push({
      ...plan,
      id,
      name,
      email,
      api,
      kbId: kb.id,
      kbPath: `/tenants/${name}/kbs/${KB}`,
      files: new Map(),
    });
  }
  table(
    [
      ['tenant', 'what it is', 'its member'],
      ...tenants.map(({ displayName, about, person, email }) => [displayName, about, `${person}, ${email}`]),
    ],
    tableHead,
  );
  paragraph(
    `Each member has an account and a token of their own, makes a knowledge base named “${KB}”, and does with it ` +
      'everything that follows.',
    dim,
  );
  return tenants;
}

async function uploadDocuments(tenants) {
  heading('3  Documents');
  const count = corpus(tenants[0]).length;
  paragraph(
    `Both upload ${count} files of Markdown, HTML and text. In the background each is split into chunks, and every ` +
      'chunk gets a vector for its meaning and weights for its words.',
  );
  const started = performance.now();
  const bars = display.progress(tenants.map(({ displayName }) => displayName));
  undo.push(() => bars.stop());
  await Promise.all(
    tenants.map(async tenant => {
      const documents = await ingest(tenant, (share, note) => bars.update(tenant.displayName, share, note));
      for (const { id, file_name: fileName } of documents) tenant.files.set(id, fileName);
    }),
  );
  undo.pop()();
  line(dim(`Done in ${seconds(started)}.`));
}

function corpus({ folder }) {
  const location = new URL(`corpus/${folder}/`, import.meta.url);
  return readdirSync(location).map(name => new File([readFileSync(new URL(name, location))], name));
}

/** @returns {Promise<object[]>} the documents, all of them ready */
async function ingest(tenant, onProgress) {
  const form = new FormData();
  const files = corpus(tenant);
  for (const file of files) form.append('file', file);
  const { rejected } = await tenant.api.post(`${tenant.kbPath}/documents`, form);
  if (rejected.length > 0)
    throw new DemoError(`${rejected[0].file_name} was rejected: ${rejected[0].detail}`);
  const deadline = Date.now() + LONGEST_INGESTION_MS;
  for (;;) {
    const { items } = await tenant.api.get(`${tenant.kbPath}/documents?page_size=100`);
    const failed = items.find(({ status }) => status === 'failed' || status === 'cancelled');
    if (failed)
      throw new DemoError(`${failed.file_name} was not ingested: ${failed.error?.message ?? failed.status}`);
    const ready = items.filter(({ status }) => status === 'ready');
    const share = sum(items, ({ status, progress }) => (status === 'ready' ? 1 : progress)) / files.length;
    onProgress(
      share,
      `${ready.length} of ${files.length} ready, ${sum(ready, item => item.chunk_count)} chunks`,
    );
    if (ready.length === files.length) return items;
    if (Date.now() > deadline)
      throw new DemoError(`${tenant.displayName}: only ${ready.length} documents are ready after 180 s.`);
    await sleep(100);
  }
}

async function askQuestions(tenants) {
  heading('4  The same questions to both');
  let explained = false;
  for (const { question, answers: expected } of QUESTIONS) {
    const answers = await Promise.all(
      tenants.map(({ api, kbPath }) => api.post(`${kbPath}/query`, { query: question })),
    );
    if (!explained) {
      explained = true;
      const how =
        answers[0].model === 'extractive'
          ? 'No chat model is set, so answers are sentences quoted from the documents.'
          : `The answers are written by ${answers[0].model}.`;
      paragraph(`${how} [1] names the source of a sentence.`, dim);
    }
    line();
    paragraph(question, bold);
    sideBySide(...tenants.map(({ displayName }) => displayName), cyan);
    sideBySide(...answers.map(({ answer }) => answer), markers);
    sideBySide(...tenants.map((tenant, index) => sources(tenant, answers[index])), dim);
    for (const [index, tenant] of tenants.entries())
      checkAnswer(tenant, question, answers[index], expected[tenant.folder]);
  }
}

/** Each source once, behind the numbers of its quotes. */
function sources({ files }, { citations }) {
  return [...new Set(citations.map(citation => citation.document_id))]
    .map(id => {
      const numbers = citations
        .filter(citation => citation.document_id === id)
        .map(({ index }) => `[${index}]`);
      return `${numbers.join(' ')} ${files.get(id) ?? id}`;
    })
    .join('\n');
}

function checkAnswer(
  { displayName, files },
  question,
  { answered, answer, citations, passages, model },
  expected,
) {
  const about = `${displayName}, “${question}”`;
  check(
    [...citations, ...passages].every(({ document_id: id }) => files.has(id)),
    `${about}: the answer rests on a document that does not belong to the tenant.`,
  );
  if (!expected) {
    check(
      !answered && citations.length === 0,
      `${about}: should have been declined, but was answered: ${answer}`,
    );
    return;
  }
  check(answered, `${about}: should have been answered, but was declined.`);
  check(
    citations.some(({ document_id: id }) => files.get(id) === expected.document),
    `${about}: the answer does not cite ${expected.document}.`,
  );
  // A chat model may word it otherwise; quotes may not.
  const said = model === 'extractive' ? answer : citations.map(({ quote }) => quote).join('\n');
  check(said.includes(expected.contains), `${about}: “${expected.contains}” is missing from the answer.`);
}

async function readAcross([own, other]) {
  heading('5  Reading across');
  paragraph(
    `${own.person} of ${own.displayName} has got hold of ids of ${other.displayName} and asks for them with a valid ` +
      'token. The same is asked for with ids that never existed.',
  );
  line();
  const absent = { id: randomUUID(), kbId: randomUUID(), documentId: randomUUID() };
  const ids = [own, other].map(({ id, kbId, files }) => ({
    id,
    kbId,
    documentId: files.keys().next().value,
  }));
  const below = `/tenants/${own.id}`;
  const query = { query: QUESTIONS[0].question };
  const attempts = [
    { method: 'GET', label: '/tenants/{id}', path: ({ id }) => `/tenants/${id}` },
    { method: 'GET', label: '/tenants/{id}/kbs', path: ({ id }) => `/tenants/${id}/kbs` },
    { method: 'GET', label: '…/kbs/{id}', path: ({ kbId }) => `${below}/kbs/${kbId}` },
    {
      method: 'POST',
      label: '…/kbs/{id}/query',
      path: ({ kbId }) => `${below}/kbs/${kbId}/query`,
      body: query,
    },
    {
      method: 'GET',
      label: '…/documents/{id}',
      path: ({ documentId }) => `${below}/kbs/${KB}/documents/${documentId}`,
    },
    {
      method: 'GET',
      label: '…/documents/{id}/content',
      path: ({ documentId }) => `${below}/kbs/${KB}/documents/${documentId}/content`,
    },
  ];
  const rows = [];
  let bodies = [];
  for (const { method, label, path, body } of attempts) {
    const [control, foreign, none] = await Promise.all(
      [ids[0], ids[1], absent].map(reference => own.api.send(method, path(reference), body)),
    );
    rows.push([method, label, ...[control, foreign, none].map(outcome)]);
    bodies = [foreign.body, none.body].map(withoutRequest);
    check(
      control.status === 200,
      `${method} ${label}: ${own.person}’s own was answered with ${control.status}.`,
    );
    check(
      foreign.status === 404,
      `${method} ${label}: ${other.displayName}’s was answered with ${foreign.status}.`,
    );
    check(
      foreign.status === none.status && isDeepStrictEqual(...bodies),
      `${method} ${label}: what belongs to ${other.displayName} is answered otherwise than what does not exist.`,
    );
  }
  table([['', '', `${own.person}’s own`, `${other.displayName}’s`, 'never existed'], ...rows], tableHead);
  line();
  sideBySide(`The body for ${other.displayName}’s document`, 'The body for one that never existed', dim);
  sideBySide(...bodies.map(body => JSON.stringify(body, null, 2)));
  paragraph(
    'They are equal (but for the address asked for and the id of the request): nobody learns what others have.',
  );
}

function outcome({ status, body }) {
  return status === 200 ? '200' : `${status} ${body?.code ?? ''}`;
}

/** Leaves out what names the request itself. */
function withoutRequest({ instance: _instance, request_id: _requestId, ...problem }) {
  return problem;
}

async function readAcrossInSql([own, other], server) {
  heading('6  The same attempt in SQL');
  const session = await openSession(own, server);
  if (!session) {
    leftOut = 'The attempt in SQL';
    return;
  }
  undo.push(() => session.close());
  paragraph(
    'Suppose that the application forgot to ask for the tenant. It works as a role that row-level security holds, ' +
      'so PostgreSQL itself answers as follows.',
  );
  const document = other.files.keys().next().value;
  const sql = statement => psql(session, statement, text => line(style(text)));
  const remark = text => line(dim(`-- ${text}`));

  line();
  await sql('SET ROLE enclave_tenant;');
  const role = await sql(
    'SELECT rolname, rolsuper, rolbypassrls FROM pg_roles\nWHERE rolname = current_user;',
  );
  check(
    isDeepStrictEqual(role.rows, [['enclave_tenant', 'f', 'f']]),
    'The role may bypass row-level security.',
  );
  remark(`As ${other.displayName}: its documents are there.`);
  await sql(`SET app.tenant_id = '${other.id}';`);
  const theirs = await sql('SELECT count(*) FROM documents;');
  check(
    theirs.rows[0]?.[0] === String(other.files.size),
    `${other.displayName} does not see its own documents.`,
  );
  remark(`As ${own.displayName}: its own are there, and nothing else.`);
  await sql(`SET app.tenant_id = '${own.id}';`);
  const ours = await sql('SELECT count(*) FROM documents;');
  check(
    ours.rows[0]?.[0] === String(own.files.size),
    `${own.displayName} sees other documents than its own.`,
  );
  for (const statement of [
    `SELECT title FROM documents\nWHERE tenant_id = '${other.id}';`,
    `SELECT text FROM chunks\nWHERE document_id = '${document}';`,
    `UPDATE documents SET title = 'Ours'\nWHERE id = '${document}';`,
    `DELETE FROM documents\nWHERE id = '${document}';`,
  ]) {
    const { rowCount, error } = await sql(statement);
    check(
      error === null && rowCount === 0,
      `${statement.replace('\n', ' ')} reached ${rowCount} rows of the other tenant.`,
    );
  }
  const insert = await sql(
    'INSERT INTO documents (id, tenant_id, kb_id,\n' +
      '  title, source, mime_type, size_bytes, content_sha256)\n' +
      `VALUES ('${randomUUID()}',\n  '${other.id}',\n  '${other.kbId}',\n` +
      "  'Forged', 'text', 'text/plain', 6, 'none');",
  );
  check(
    insert.error === 'new row violates row-level security policy for table "documents"',
    `A row for the other tenant was not refused by row-level security: ${insert.error ?? 'it was inserted'}`,
  );
  remark('As nobody:');
  await sql('RESET app.tenant_id;');
  const nobody = await sql('SELECT count(*) FROM documents;');
  check(nobody.rows[0]?.[0] === '0', 'Documents can be seen without a tenant.');
  undo.pop();
  await session.close();
}

/** Null, with a sentence that says why, where this database cannot be asked. */
async function openSession(own, server) {
  if (server) {
    paragraph(
      'An embedded database serves one process at a time: the server has ended, and this opens its data folder.',
      dim,
    );
    await server.stop();
    return openEmbedded(server.folder);
  }
  let session = null;
  try {
    session = await openServer();
    if (session && (await holdsTenant(session, own.id))) return session;
    paragraph(
      session
        ? 'Left out: DATABASE_URL names another database than that of the server.'
        : 'Left out: this part needs the database itself. Set DATABASE_URL to that of the server; an embedded database ' +
            'belongs to its process alone, so for that one run the demo without --url.',
    );
  } catch (error) {
    paragraph(`Left out: the database of DATABASE_URL cannot be asked (${error.message}).`);
  }
  await session?.close();
  return null;
}

function style(text) {
  const prompt = /^enclave[=-]>/.exec(text)?.[0];
  if (prompt) return dim(prompt) + bold(text.slice(prompt.length));
  return text.startsWith('ERROR') ? red(text) : text;
}

/** Keeps the server until a signal ends it, and with it the demo. */
async function stay(server, url) {
  concluded = conclude();
  heading('Look around');
  await server.start();
  table([
    ['API', `${url}/api/v1`],
    ['Docs', `${url}/docs`],
    ['Sign in as', `${server.admin.email}, password ${server.admin.password}`],
  ]);
  line('The server runs until you press Ctrl-C; then its data goes.');
  await server.ended();
  if (!interrupted) throw new DemoError('The server ended by itself.');
}

function sayGoodbye(tenants, { url, keep }) {
  if (url) {
    heading('Look around');
    const people = tenants.map(({ email }) => email).join(' and ');
    if (keep) line(`The tenants ${tenants.map(({ name }) => name).join(' and ')} are still there.`);
    else
      paragraph(
        `Both tenants are deleted with everything in them. The accounts of ${people} remain, in no tenant.`,
      );
    table([
      ['API', `${url}/api/v1`],
      ['Docs', `${url}/docs`],
    ]);
    return;
  }
  heading('Start for real');
  table([
    ['npm start', 'on this machine, with the embedded database in ./data'],
    ['docker compose up', 'with PostgreSQL and Redis; its file names the secrets it needs'],
  ]);
  line();
  table([
    ['API', `http://127.0.0.1:3000/api/v1`],
    ['Docs', `http://127.0.0.1:3000/docs`],
  ]);
  line(dim('To look around with the data of the demo: npm run demo -- --stay'));
}

function conclude() {
  line();
  if (failures.length === 0) {
    const without = leftOut ? ` ${leftOut} was left out.` : '';
    line(green(`✓ ${checks} checks, and everything is as it should be.`) + without);
    return 0;
  }
  line(red(`✗ ${failures.length} of ${checks} checks failed:`));
  for (const failure of failures) paragraph(`- ${failure}`, red);
  return 1;
}

function check(isAsItShouldBe, failure) {
  checks++;
  if (isAsItShouldBe) return;
  failures.push(failure);
  paragraph(`✗ ${failure}`, red);
}

async function cleanUp() {
  for (let step = undo.pop(); step; step = undo.pop()) await step();
}

async function interrupt(code) {
  if (interrupted) return;
  interrupted = true;
  try {
    await cleanUp();
    process.exit(concluded ?? code);
  } catch (error) {
    process.stderr.write(`Not everything was taken back: ${error.message}\n`);
    process.exit(1);
  }
}

const sum = (items, valueOf) => items.reduce((total, item) => total + valueOf(item), 0);
const seconds = since => `${((performance.now() - since) / 1000).toFixed(1)} s`;
const tableHead = (cells, index) => (index === 0 ? cells.map(cell => dim(cell)) : cells);

try {
  await run(readOptions());
} catch (error) {
  if (!interrupted) {
    const isForPeople = error instanceof DemoError || error instanceof BuildError;
    process.stderr.write(`\n${red(isForPeople ? error.message : error.stack)}\n`);
    await cleanUp().catch(reason =>
      process.stderr.write(`Not everything was taken back: ${reason.message}\n`),
    );
    process.exit(error.exitCode ?? 1);
  }
}
