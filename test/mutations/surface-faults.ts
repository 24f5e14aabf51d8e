import type { Fault } from './fault.js';

const SURFACES = 'test/isolation/surfaces.spec.ts';
const WITHIN = 'test/isolation/within-a-tenant.spec.ts';
const BELOW_ANOTHER = `${WITHIN}#what stands in one knowledge base`;

/** Does `call` with the eyes of the system. @param context expression for the TenantContext */
const seeingAll = (context: string, call: string): string =>
  `${context}.runAs({ kind: 'system' }, ${context}.tenant, { all: true, groups: [], member: false }, () => ${call})`;

/** A check that holds everywhere but on one surface. */
export const SURFACE_FAULTS: readonly Fault[] = [
  {
    name: 'search-sees-all',
    breaks: 'A search finds passages of documents that may not be read.',
    edits: [
      {
        file: 'src/features/retrieval/retrieval.service.ts',
        find: '        const found = await this.search(kbReference, request, signal);\n',
        replace: `        const found = await ${seeingAll('this.context', 'this.search(kbReference, request, signal)')};\n`,
      },
    ],
    specs: [SURFACES, 'test/e2e/document-access.spec.ts#is not there for anybody else'],
  },
  {
    name: 'query-sees-all',
    breaks: 'A question is answered from documents that may not be read.',
    edits: [
      {
        file: 'src/features/rag-query/rag-query.service.ts',
        find: 'await this.retrieval.searchMany(\n        plan.ids,\n',
        replace:
          "await ((...asked: Parameters<RetrievalService['searchMany']>) => " +
          `${seeingAll("this.database['context']", 'this.retrieval.searchMany(...asked)')})(\n        plan.ids,\n`,
      },
    ],
    specs: [SURFACES, 'test/e2e/document-access.spec.ts#is not there for anybody else'],
  },
  {
    name: 'chat-sees-all',
    breaks: 'A chat is answered from documents that may not be read.',
    edits: [
      {
        file: 'src/features/chat/chat.service.ts',
        find: '    yield* this.ragQuery.stream(\n      [kb.id],\n',
        replace: `    const whole = async (...asked: Parameters<RagQueryService['stream']>) => {
      const events: AnswerEvent[] = [];
      for await (const event of this.ragQuery.stream(...asked)) events.push(event);
      return events;
    };
    yield* await ((...asked: Parameters<typeof whole>) =>
      ${seeingAll('this.context', 'whole(...asked)')})(
      [kb.id],
`,
      },
    ],
    specs: [SURFACES, 'test/e2e/document-access.spec.ts#is not there for anybody else'],
  },
  {
    name: 'agent-tool-sees-all',
    breaks: 'An agent’s tool finds what whoever asks the agent may not read.',
    edits: [
      {
        file: 'src/features/chat/agent-answer.ts',
        find: 'await retrieval.search(kbId, fields, signal, async (tx, found) => {',
        replace:
          'await ((...asked: Parameters<RetrievalService["search"]>) => ' +
          `${seeingAll("retrieval['context']", 'retrieval.search(...asked)')})(kbId, fields, signal, async (tx, found) => {`,
      },
    ],
    specs: ['test/e2e/agent-tools.spec.ts#an agent sees what its caller sees', SURFACES],
  },
  {
    name: 'graph-sees-all',
    breaks: 'The list of entities names what stands in hidden documents alone.',
    edits: [
      {
        file: 'src/features/graph/graph.service.ts',
        find: '  listEntities(reference: string, query: ListEntities): Promise<Page<Entity>> {\n    return this.database.run(async tx => {',
        replace:
          '  listEntities(reference: string, query: ListEntities): Promise<Page<Entity>> {\n' +
          `    const run = this.database.run.bind(this.database) as TenantDatabase['run'];\n` +
          `    return ((work: Parameters<typeof run>[0]) => ${seeingAll('this.context', 'run(work)')} as never)(async tx => {`,
      },
    ],
    specs: [SURFACES, 'test/e2e/graph.spec.ts#a graph of documents that not everybody may read'],
  },
  {
    name: 'graph-search-sees-all',
    breaks: 'A search through the graph walks over what hidden documents mention.',
    edits: [
      {
        file: 'src/features/retrieval/retrieval.service.ts',
        find: '    for (let attempt = 1; ; attempt++) {\n',
        replace: `    if (graphUseOf(request.mode) && !this.context.access.all)\n      return ${seeingAll('this.context', 'this.searchMany(kbReferences, request, signal, extend)')};\n    for (let attempt = 1; ; attempt++) {\n`,
      },
    ],
    specs: ['test/e2e/graph-modes.spec.ts', SURFACES],
  },
  {
    name: 'evaluation-sees-all',
    breaks: 'The questions of an evaluation find what its starter may not read.',
    edits: [
      {
        file: 'src/features/evaluation/evaluation-starter.service.ts',
        find: '    return access;\n  }\n\n  private async user',
        replace: '    return { ...access, all: true };\n  }\n\n  private async user',
      },
    ],
    specs: ['test/e2e/evaluation.spec.ts#finds what they may read', SURFACES],
  },
  {
    name: 'evaluation-of-whoever-has-left',
    breaks: 'An evaluation goes on when its starter has lost the right to ask.',
    edits: [
      {
        file: 'src/features/evaluation/evaluation-starter.service.ts',
        find: "    for (const permission of ['kb:update', 'query:run'] as const) {",
        replace: "    for (const permission of [] as Array<'kb:update'>) {",
      },
    ],
    specs: ['test/e2e/evaluation.spec.ts#is asked again for their rights', SURFACES],
  },
  {
    name: 'download-sees-all',
    breaks: 'The original of a document is downloaded by whoever knows its id.',
    edits: [
      {
        file: 'src/features/documents/document-content.service.ts',
        find: '    return this.database.run(async tx => {\n      const kb',
        replace:
          `    return ((work: (tx: never) => Promise<Original>) => ` +
          `${seeingAll("this.database['context']", 'this.database.run(work as never)')})(async tx => {\n      const kb`,
      },
    ],
    specs: [SURFACES, 'test/e2e/document-access.spec.ts#is not there for anybody else'],
  },
  {
    name: 'bulk-delete-sees-all',
    breaks: 'Documents that somebody may not read are deleted with others.',
    edits: [
      {
        file: 'src/features/documents/document-deletion.service.ts',
        find: '    const { deleted, keys } = await this.database.run(async tx => {',
        replace:
          '    const { deleted, keys } = await ((work: (tx: Tx) => Promise<{ deleted: string[]; keys: string[] }>) => ' +
          `${seeingAll("this.database['context']", 'this.database.run(work)')})(async tx => {`,
      },
    ],
    specs: ['test/e2e/document-access.spec.ts', SURFACES],
  },
  {
    name: 'several-kbs-not-asked-one-by-one',
    breaks: 'A question to several knowledge bases goes to those that may not be asked, too.',
    edits: [
      {
        file: 'src/features/rag-query/askable-kbs.service.ts',
        find: '    return ids.filter((_, index) => allowed[index]);',
        replace: '    return ids.filter((_, index) => allowed.length > index);',
      },
    ],
    specs: ['test/e2e/query-several-kbs.spec.ts#under the caller’s rights in each'],
  },
  {
    name: 'chat-without-its-permission',
    breaks: 'Whoever may ask may chat, and have it kept.',
    edits: [
      {
        file: 'src/features/chat/chat.service.ts',
        find: '    await this.chats.requireOwn(kbReference);\n',
        replace: '',
      },
    ],
    specs: ['test/e2e/chat.spec.ts', SURFACES, 'test/isolation/roles.spec.ts'],
  },
  {
    name: 'all-chats-read-by-all',
    breaks: 'Chats, their messages and their exports are read without the permission to read all.',
    edits: [
      {
        file: 'src/features/chat/chat-sessions.service.ts',
        find: "this.kbsWith('chat:read_all')",
        replace: "this.kbsWith('chat:own')",
      },
    ],
    specs: ['test/e2e/chat.spec.ts#one’s own chats', SURFACES],
  },
  {
    name: 'export-of-all-chats',
    breaks: 'A chat is exported by whoever knows its id.',
    edits: [
      {
        file: 'src/features/chat/chat-export.service.ts',
        find: '    const session = await this.sessions.get(id);\n',
        replace: `    const session = (await this.sessions['database'].run(async tx => {
      await this.sessions['sessions'].readAll(tx);
      return this.sessions['sessions'].find(tx, id, { owner: this.sessions.owner(), own: 'all', all: 'all' });
    })) as ChatSession;
`,
      },
    ],
    specs: ['test/e2e/chat.spec.ts#one’s own chats', SURFACES],
    crashes: 'the database shows no message of it, so the file breaks off, and the test has it in its hands',
  },
  {
    name: 'jobs-of-others',
    breaks: 'A job is read and cancelled by whoever knows its id.',
    edits: [
      {
        file: 'src/core/jobs/jobs.service.ts',
        find: '!(await this.maySee(found.job))',
        replace: '!found.job.id',
      },
    ],
    specs: [WITHIN, 'test/e2e/jobs.spec.ts'],
  },
  {
    name: 'hidden-words-count',
    breaks: 'Scores tell which words stand in documents that may not be read.',
    edits: [
      {
        file: 'src/features/retrieval/retrieval.repository.ts',
        find: 'const hidden = result.kb?.partly_hidden ?? false;',
        replace: 'const hidden = false;',
      },
    ],
    specs: ['test/e2e/document-access.spec.ts#leaves no trace of its words'],
  },
  {
    name: 'hidden-words-count-at-first',
    breaks:
      'A search that was to be one statement is not done again where documents are hidden from who asks.',
    edits: [
      {
        file: 'src/features/retrieval/retrieval.service.ts',
        find: '      stale ||= unfinished;\n',
        replace: '',
      },
    ],
    specs: ['test/e2e/document-access.spec.ts#leaves no trace of its words'],
  },
  {
    name: 'document-of-another-kb',
    breaks: 'A document is found in a knowledge base that it is not in, past the permission in its own.',
    edits: [
      {
        file: 'src/features/documents/documents.repository.ts',
        find: '    return tx.getRepository(Document).findOneBy({ id, kbId });',
        replace: '    return tx.getRepository(Document).findOneBy({ id, ...(kbId === null && { kbId }) });',
      },
    ],
    specs: [BELOW_ANOTHER, SURFACES],
  },
  {
    name: 'agent-of-another-kb',
    breaks: 'An agent is found in a knowledge base that it is not of.',
    edits: [
      {
        file: 'src/features/agents/agents.repository.ts',
        find: '`SELECT ${AGENT} FROM agents WHERE kb_id = $1 AND ${isUuid',
        replace: '`SELECT ${AGENT} FROM agents WHERE $1::uuid IS NOT NULL AND ${isUuid',
      },
    ],
    specs: [BELOW_ANOTHER, 'test/e2e/agents.spec.ts#agents of another knowledge base'],
  },
  {
    name: 'entity-of-another-kb',
    breaks: 'What a graph knows is read through another knowledge base.',
    edits: [
      {
        file: 'src/features/graph/graph.service.ts',
        find: 'if (!(await this.repository.has(tx, kb.id, entityId)))',
        replace: 'if (!kb.id)',
      },
    ],
    specs: [BELOW_ANOTHER, 'test/e2e/graph.spec.ts'],
  },
  {
    name: 'storage-path-from-a-name',
    breaks: 'Files of the same name in two tenants lie in one place.',
    edits: [
      {
        file: 'src/features/documents/document-versions.service.ts',
        find: '    const key = newStorageKey(kb, file.sha256);\n    await file.keep(key);\n    try {',
        replace:
          '    const key = `files/${content.fileName?.replace(/[^a-z.]/g, "-") ?? file.sha256}`;\n    await file.keep(key);\n    try {',
      },
    ],
    specs: ['test/attacks/paths.spec.ts#the same name in another tenant'],
  },
];
