import type { Fault } from './fault.js';

const INJECTED = 'test/isolation/injected-fields.spec.ts';
const SQL_INJECTION = 'test/attacks/sql-injection.spec.ts';
const KBS = 'src/features/knowledge-bases/knowledge-bases.service.ts';
const KBS_STORED = 'src/features/knowledge-bases/knowledge-bases.repository.ts';
const KB_ROUTES = 'src/features/knowledge-bases/knowledge-bases.controller.ts';
const KB_FIELDS = 'src/features/knowledge-bases/knowledge-bases.dto.ts';
const GUARD = 'src/entry/authentication/authentication.guard.ts';

/** What a request says that nobody has asked it for. */
export const INPUT_FAULTS: readonly Fault[] = [
  {
    name: 'unknown-fields-dropped',
    breaks: 'A body with fields that nobody knows is taken without a word.',
    edits: [
      {
        file: KB_FIELDS,
        find: 'export const createKnowledgeBaseSchema = z\n  .strictObject({',
        replace: 'export const createKnowledgeBaseSchema = z\n  .object({',
      },
    ],
    specs: [`${INJECTED}#every JSON body`, INJECTED],
  },
  {
    name: 'unknown-fields-inside',
    breaks: 'An object inside of a body takes fields that nobody knows.',
    edits: [
      {
        file: 'src/core/tenancy/tenant-config.ts',
        find: 'export const configOverridesSchema = z\n  .strictObject(',
        replace: 'export const configOverridesSchema = z\n  .looseObject(',
      },
    ],
    specs: [`${INJECTED}#every object of a body`, INJECTED],
  },
  {
    name: 'unknown-fields-of-a-form',
    breaks: 'Fields beside the files of an upload are taken whatever they are called.',
    edits: [
      {
        file: 'src/features/documents/documents.dto.ts',
        find: 'export const uploadFieldsSchema = z.strictObject({',
        replace: 'export const uploadFieldsSchema = z.looseObject({',
      },
    ],
    specs: [`${INJECTED}#beside the files`, INJECTED],
  },
  // Bodies are strict: what is believed or stored of one would first have to be taken, which is a fault of its own.
  {
    name: 'tenant-of-the-query-entered',
    breaks: 'A parameter that nobody reads as a tenant says which one a request works in.',
    edits: [
      {
        file: 'src/entry/authentication/tenant.guard.ts',
        find: '    this.context.setTenant({ id: tenant.id, name: tenant.name }, sees);\n',
        replace: `    const { tenantId } = (request.query ?? {}) as { tenantId?: string };
    const entered = (tenantId ? await this.directory.find(tenantId) : null) ?? tenant;
    this.context.setTenant({ id: entered.id, name: entered.name }, sees);
`,
      },
    ],
    specs: [`${INJECTED}#is stored by nothing`],
  },
  {
    name: 'everything-of-the-query-stored',
    breaks: 'A parameter sets a column: who has made a knowledge base.',
    edits: [
      {
        file: KB_ROUTES,
        find: "import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Put, Query } from '@nestjs/common';",
        replace:
          "import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Put, Query, Req } from '@nestjs/common';",
      },
      {
        file: KB_ROUTES,
        find: '  async create(@Body({ schema: createKnowledgeBaseSchema }) body: CreateKnowledgeBase) {\n    return toKnowledgeBase(await this.knowledgeBases.create(body));',
        replace:
          '  async create(@Body({ schema: createKnowledgeBaseSchema }) body: CreateKnowledgeBase, @Req() request: { query: object }) {\n    return toKnowledgeBase(await this.knowledgeBases.create({ ...request.query, ...body }));',
      },
      {
        file: KBS,
        find: '        createdBy: isSystem ? null : this.context.userId,\n',
        replace:
          '        createdBy: isSystem ? null : ((input as { createdBy?: string }).createdBy ?? this.context.userId),\n',
      },
    ],
    specs: [`${INJECTED}#is stored by nothing`],
  },
  {
    name: 'header-says-who-it-is',
    breaks: 'A header that a proxy might set says who is asking.',
    edits: [
      {
        file: GUARD,
        find: '    this.context.setPrincipal(principal);\n    return true;\n  }\n\n  /** Somebody',
        replace:
          "    const userId = request.headers['x-user-id'];\n    const believed = typeof userId === 'string' && principal.kind === 'user' ? { ...principal, userId } : principal;\n    this.context.setPrincipal(believed);\n    return true;\n  }\n\n  /** Somebody",
      },
    ],
    specs: [`${INJECTED}#in a header`, INJECTED],
  },
  {
    name: 'search-written-into-the-statement',
    breaks: 'What somebody searches for is read by the database as SQL.',
    edits: [
      {
        file: KBS_STORED,
        find: "      builder.andWhere('(kb.name ILIKE :search OR kb.slug ILIKE :search)', {\n        search: likePattern(query.search),\n      });",
        replace: "      builder.andWhere(`(kb.name ILIKE '${likePattern(query.search)}')`);",
      },
    ],
    crashes: 'what is read as SQL and is none ends in a server error, and the test looks for that',
    specs: [SQL_INJECTION],
  },
  {
    name: 'sort-written-into-the-statement',
    breaks: 'The order of a list is read by the database as SQL.',
    edits: [
      {
        file: 'src/foundation/http/pagination.ts',
        find: '    sort: z.enum(sorts).default(sortable[0] as never),',
        replace: '    sort: z.string().default(sorts[0] as never),',
      },
      {
        file: 'src/foundation/http/pagination.ts',
        find: '  const column = Object.hasOwn(columns, field) ? columns[field] : undefined;\n',
        replace: '  const column = Object.hasOwn(columns, field) ? columns[field] : field;\n',
      },
    ],
    specs: [`${SQL_INJECTION}#a column to sort by`, SQL_INJECTION],
  },
  ...[
    { name: 'percent-of-a-search', sign: '%', others: '\\\\_' },
    { name: 'underscore-of-a-search', sign: '_', others: '\\\\%' },
    { name: 'backslash-of-a-search', sign: '\\', others: '%_' },
  ].map(({ name, sign, others }) => ({
    name,
    breaks: `A search of lists takes ${sign} for something else: it finds what does not hold it.`,
    edits: [
      {
        file: 'src/foundation/http/pagination.ts',
        find: "`%${search.replace(/[\\\\%_]/g, '\\\\$&')}%`",
        replace: `\`%\${search.replace(/[${others}]/g, '\\\\$&')}%\``,
      },
    ],
    specs: [`${SQL_INJECTION}#wildcards in a search`],
  })),
];
