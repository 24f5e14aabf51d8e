import { z } from 'zod';
import type { CheckedRow } from './import-rows.js';
import { OUTCOMES, type Outcome, type RawRow } from './import-rows.js';

const dryRun = z.boolean().default(false).describe('Says what would happen, and does nothing.');
const onError = z
  .enum(['abort', 'skip'])
  .default('abort')
  .describe('Where a row is not valid: do nothing at all, or the rest');

/** Texts of any form: what is wrong with one is said of its row. */
const rowSchema = z
  .strictObject({
    email: z.string().optional(),
    username: z.string().optional(),
    display_name: z.string().optional(),
    full_name: z.string().optional().describe('Another word for `display_name`'),
    role: z.string().optional(),
    roles: z.array(z.string()).max(20).optional(),
  })
  .meta({ id: 'BulkMember' });

export const bulkMembersSchema = z
  .strictObject({
    users: z.array(rowSchema).min(1).describe('At most 10,000'),
    dry_run: dryRun,
    on_error: onError,
    send_welcome_emails: z.boolean().default(false),
    generate_passwords: z
      .boolean()
      .default(true)
      .describe(
        'New accounts have no password: whether their e-mail has a link to choose one. Without it they ask for one.',
      ),
  })
  .meta({
    id: 'BulkMembers',
    example: { users: [{ username: 'ada', email: 'ada@example.com', full_name: 'Ada', role: 'editor' }] },
  });

const textFlag = z
  .enum(['true', 'false', '1', '0'])
  .transform(value => value === 'true' || value === '1')
  .default(false);

/** The fields beside the file. */
export const importFieldsSchema = z.strictObject({
  format: z.literal('csv').default('csv'),
  send_notifications: textFlag,
  dry_run: textFlag,
  on_error: onError,
});

export const importedRowSchema = z
  .object({
    row: z.int().describe('From 1'),
    line: z.int().optional().describe('Of the file, from 1'),
    email: z.string(),
    outcome: z.enum(OUTCOMES),
    user_id: z.uuid().optional(),
    errors: z.array(z.object({ field: z.string(), code: z.string(), message: z.string() })).optional(),
  })
  .meta({ id: 'ImportedMember' });

export const importResultSchema = z
  .object({
    dry_run: z.boolean(),
    summary: z.object({
      total: z.int(),
      created: z.int().describe('Made an account, and a member of it'),
      added: z.int().describe('Had an account, and became a member'),
      unchanged: z.int().describe('Were members already'),
      invalid: z.int(),
      skipped: z.int().describe('Were valid, but could no longer be done'),
    }),
    rows: z.array(importedRowSchema),
  })
  .meta({ id: 'MemberImport' });

export type BulkMembers = z.infer<typeof bulkMembersSchema>;
export type ImportFields = z.infer<typeof importFieldsSchema>;
export type ImportedRow = z.infer<typeof importedRowSchema>;
export type ImportResult = z.infer<typeof importResultSchema>;

/** How an import is to be done. */
export interface ImportOptions {
  dryRun: boolean;
  onError: 'abort' | 'skip';
  sendMails: boolean;
  /** Whether those mails let a new account choose its password. */
  withTokens: boolean;
}

export function toRawRows(users: BulkMembers['users']): RawRow[] {
  return users.map((user, index) => {
    const errors = [
      ...(user.role !== undefined && user.roles !== undefined ? [given('role', 'roles')] : []),
      ...(user.display_name !== undefined && user.full_name !== undefined
        ? [given('display_name', 'full_name')]
        : []),
    ];
    return {
      row: index + 1,
      line: null,
      email: user.email ?? '',
      username: user.username ?? '',
      name: user.display_name ?? user.full_name ?? '',
      roles: user.roles ?? (user.role === undefined ? [] : [user.role]),
      errors,
    };
  });
}

const given = (a: string, b: string) => ({ field: b, code: 'repeated', message: `is there beside ${a}` });

export function toImportedRow(row: CheckedRow, outcome: Outcome = row.outcome, userId?: string): ImportedRow {
  return {
    row: row.row,
    ...(row.line !== null && { line: row.line }),
    email: row.email,
    outcome,
    ...(userId !== undefined && { user_id: userId }),
    ...(row.errors.length > 0 && { errors: row.errors }),
  };
}

export function toImportResult(rows: ImportedRow[], isDryRun: boolean): ImportResult {
  const count = (outcome: Outcome) => rows.filter(row => row.outcome === outcome).length;
  return {
    dry_run: isDryRun,
    summary: {
      total: rows.length,
      created: count('created'),
      added: count('added'),
      unchanged: count('unchanged'),
      invalid: count('invalid'),
      skipped: count('skipped'),
    },
    rows: rows.toSorted((a, b) => a.row - b.row),
  };
}
