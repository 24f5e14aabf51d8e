import { z } from 'zod';
import { jsonValue } from '../../foundation/http/free-json.js';
import { Problem } from '../../foundation/http/problem.js';
import type { ChainReport } from './chain-verifier.js';
import type { ExportSelection } from './audit-log.service.js';
import type { AuditFilter, PageOfAudit } from './audit.repository.js';
import type { AuditEntry, ChainHead } from './audit-entry.js';

const DAY = 24 * 60 * 60 * 1000;
const DEFAULT_PAGE_SIZE = 20;
const ACTOR_TYPES = ['user', 'api_token', 'platform_admin', 'system', 'anonymous'] as const;
const OUTCOMES = ['allowed', 'denied'] as const;

/** A day, or a moment with its offset from UTC. */
const momentField = z
  .union(
    [z.iso.date(), z.iso.datetime({ offset: true })],
    'must be a date or a time of ISO 8601, with Z or an offset',
  )
  .refine(text => {
    const year = new Date(text).getUTCFullYear();
    return year >= 1970 && year < 9999;
  }, 'must lie in the years 1970 to 9998');

const filterFields = {
  start_date: momentField
    .optional()
    .describe('From this day (UTC) or moment on')
    .meta({ example: '2026-01-01' }),
  end_date: momentField
    .optional()
    .describe('To this moment, or to the end of this day (UTC)')
    .meta({ example: '2026-01-31' }),
  action: z
    .string()
    .regex(
      /^[a-z0-9_-]+(\.[a-z0-9_-]+)*(\.\*)?$/,
      'must be an action, such as member.added, or a prefix: member.*',
    )
    .max(100)
    .optional()
    .describe('One action, or those with a prefix: `member.*`')
    .meta({ example: 'member.*' }),
  user_id: z.uuid().optional().describe('Who did it'),
  actor_type: z.enum(ACTOR_TYPES).optional(),
  outcome: z.enum(OUTCOMES).optional().describe('`denied`: what was refused'),
  resource_type: z.string().max(100).optional().meta({ example: 'member' }),
  resource_id: z.string().max(300).optional(),
  search: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe('In the action, the actor’s name and the resource’s id'),
};

const tenantField = z
  .string()
  .max(63)
  .optional()
  .describe('Only selects the tenant; must agree with the path.');

export const listAuditQuery = z.strictObject({
  page: z.coerce.number().int().min(1).max(1_000_000).optional().describe('From 1; the default.'),
  page_size: z.coerce
    .number()
    .int()
    .min(1)
    .max(100)
    .optional()
    .describe('At most 100; 20 where it is missing.'),
  limit: z.coerce.number().int().min(1).max(100).optional().describe('Another word for `page_size`'),
  cursor: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, 'must be the next_cursor of an answer')
    .optional()
    .describe('`next_cursor` of the page before, instead of `page`: what is added meanwhile moves nothing.'),
  tenant: tenantField,
  ...filterFields,
});

export const exportAuditQuery = z.strictObject({
  format: z
    .enum(['jsonl', 'csv'])
    .default('jsonl')
    .describe('`jsonl` can be verified offline; `csv` is for spreadsheets.'),
  start_sequence: z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
  end_sequence: z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
  tenant: tenantField,
  ...filterFields,
});

export const verifyAuditQuery = z.strictObject({ tenant: tenantField });

const hashField = z
  .string()
  .meta({ example: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08' });

export const auditEntrySchema = z
  .object({
    sequence: z.int().describe('From 1, without a gap').meta({ example: 42 }),
    tenant_id: z.uuid().nullable().describe('Null: the chain of the platform'),
    time: z.iso.datetime().meta({ example: '2026-01-15T09:30:00.123Z' }),
    actor: z
      .object({
        type: z.enum(ACTOR_TYPES),
        id: z.uuid().nullable(),
        name: z.string().nullable().meta({ example: 'ada@example.com' }),
      })
      .describe('Who did it; their name as it was then'),
    action: z.string().meta({ example: 'member.added' }),
    resource: z.object({ type: z.string().meta({ example: 'member' }), id: z.string().nullable() }),
    details: z
      .record(z.string(), jsonValue)
      .describe('What changed, before and after; no secrets, and of restricted documents no titles')
      .meta({ example: { roles: ['editor'] } }),
    outcome: z.enum(OUTCOMES),
    ip: z.string().nullable().meta({ example: '203.0.113.7' }),
    request_id: z.string().nullable(),
    prev_hash: hashField.describe('Of the entry before; 64 zeros in the first'),
    hash: hashField.describe('SHA-256 over the canonical JSON (RFC 8785) of this entry without this field'),
  })
  .meta({ id: 'AuditEntry' });

export const auditPageSchema = z
  .object({
    items: z.array(auditEntrySchema).describe('The newest first'),
    total: z.int(),
    page: z.int().nullable().describe('Null where a cursor was given'),
    page_size: z.int(),
    next_cursor: z.string().nullable().describe('For older entries; null at the end').meta({ example: '22' }),
  })
  .meta({ id: 'AuditPage' });

const problemSchema = z
  .object({
    sequence: z.int().meta({ example: 17 }),
    kind: z.enum(['changed', 'missing', 'reordered', 'duplicate', 'head']),
    message: z.string().meta({ example: 'Entry 17 was changed.' }),
  })
  .meta({ id: 'AuditProblem' });

export const auditReportSchema = z
  .object({
    valid: z.boolean(),
    entries: z.int().describe('That were read'),
    head: z.object({ sequence: z.int(), hash: hashField }).describe('Where the chain ends'),
    first_problem: problemSchema.nullable(),
    problems: z.array(problemSchema).describe('The first hundred'),
  })
  .meta({ id: 'AuditReport' });

export type ListAudit = z.infer<typeof listAuditQuery>;
export type ExportAudit = z.infer<typeof exportAuditQuery>;
type FilterFields = Pick<ListAudit, keyof typeof filterFields>;

/** @throws Problem 422 where the time ends before it begins */
export function toFilter(query: FilterFields): AuditFilter {
  const { start_date: start, end_date: end } = query;
  const from = start === undefined ? undefined : new Date(start);
  const until = end === undefined ? undefined : endOf(end);
  if (from && until && from >= until) {
    throw Problem.invalid([
      { path: 'end_date', code: 'too_small', message: 'Invalid input: must not be before start_date' },
    ]);
  }
  return {
    from,
    until,
    action: query.action,
    actorId: query.user_id,
    actorType: query.actor_type,
    outcome: query.outcome,
    resourceType: query.resource_type,
    resourceId: query.resource_id,
    search: query.search,
  };
}

/** Exclusive: of a day its end, of a moment the millisecond after. */
const endOf = (text: string): Date =>
  new Date(new Date(text).getTime() + (/^[\d-]{10}$/.test(text) ? DAY : 1));

/** @throws Problem 422 where two words for the same thing are given */
export function toPageOfAudit(query: ListAudit): PageOfAudit {
  if (query.page_size !== undefined && query.limit !== undefined) throw givenTwice('limit', 'page_size');
  if (query.cursor !== undefined && query.page !== undefined) throw givenTwice('cursor', 'page');
  return {
    page: query.page ?? 1,
    pageSize: query.page_size ?? query.limit ?? DEFAULT_PAGE_SIZE,
    before: query.cursor === undefined ? null : Number(query.cursor),
  };
}

const givenTwice = (path: string, other: string): Problem =>
  Problem.invalid([{ path, code: 'custom', message: `Invalid input: give ${path} or ${other}, not both` }]);

/** @throws Problem 422 where the range ends before it begins */
export function toSelection(query: ExportAudit): ExportSelection {
  const { format, start_sequence: startSequence, end_sequence: endSequence, tenant: _, ...filters } = query;
  if (startSequence !== undefined && endSequence !== undefined && startSequence > endSequence) {
    throw Problem.invalid([
      {
        path: 'end_sequence',
        code: 'too_small',
        message: 'Invalid input: must not be less than start_sequence',
      },
    ]);
  }
  const given = Object.entries(filters).filter(([, value]) => value !== undefined);
  return { format, startSequence, endSequence, filter: toFilter(query), filters: Object.fromEntries(given) };
}

export function toReport(report: ChainReport, head: ChainHead): z.infer<typeof auditReportSchema> {
  const problems = report.problems.map(({ sequence, kind, message }) => ({ sequence, kind, message }));
  return {
    valid: report.valid,
    entries: report.entries,
    head,
    first_problem: problems[0] ?? null,
    problems,
  };
}

export function toAuditPage(
  { items, total, next }: { items: AuditEntry[]; total: number; next: number | null },
  { page, pageSize, before }: PageOfAudit,
) {
  return {
    items,
    total,
    page: before === null ? page : null,
    page_size: pageSize,
    next_cursor: next === null ? null : String(next),
  };
}
