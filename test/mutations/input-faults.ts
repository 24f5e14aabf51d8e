import type { Edit, Fault } from './fault.js';

const INJECTED = 'test/isolation/injected-fields.spec.ts';
const SQL_INJECTION = 'test/attacks/sql-injection.spec.ts';
const KBS = 'src/features/knowledge-bases/knowledge-bases.service.ts';
const KBS_STORED = 'src/features/knowledge-bases/knowledge-bases.repository.ts';
const KB_FIELDS = 'src/features/knowledge-bases/knowledge-bases.dto.ts';
const GUARD = 'src/entry/authentication/authentication.guard.ts';

const UNKNOWN_KB_FIELDS_KEPT: Edit = {
  file: KB_FIELDS,
  find: 'export const createKnowledgeBaseSchema = z\n  .strictObject({',
  replace: 'export const createKnowledgeBaseSchema = z\n  .looseObject({',
};

/** What a request says that nobody has asked it for. */
export const INPUT_FAULTS: readonly Fault[] = [
  {
    name: 'unknown-fields-dropped',
    breaks: 'A body with fields that nobody knows is taken without a word.',
    edits: [
      {
        ...UNKNOWN_KB_FIELDS_KEPT,
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
  {
    name: 'tenant-of-the-body-believed',
    breaks: 'What is made belongs to the tenant that its body names.',
    edits: [
      UNKNOWN_KB_FIELDS_KEPT,
      {
        file: KBS,
        find: '        tenantId: this.context.tenant.id,\n        name: input.name,',
        replace:
          "        tenantId: ((input as Record<string, unknown>)['tenantId'] as string) ?? this.context.tenant.id,\n        name: input.name,",
      },
    ],
    specs: [INJECTED],
  },
  {
    name: 'everything-of-the-body-stored',
    breaks: 'A body sets whatever column it names: who has made it, and its id.',
    edits: [
      UNKNOWN_KB_FIELDS_KEPT,
      {
        file: KBS,
        find: '        createdBy: isSystem ? null : this.context.userId,\n',
        replace: '        createdBy: isSystem ? null : this.context.userId,\n        ...(input as object),\n',
      },
    ],
    specs: [INJECTED],
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
  {
    name: 'wildcards-of-a-search',
    breaks: 'A search of lists takes wildcards: it finds what does not hold what was searched for.',
    edits: [
      {
        file: 'src/foundation/http/pagination.ts',
        find: "`%${search.replace(/[\\\\%_]/g, '\\\\$&')}%`",
        replace: '`%${search}%`',
      },
    ],
    specs: [`${SQL_INJECTION}#wildcards in a search`, 'src/foundation/http/pagination.spec.ts'],
  },
];
