import { z } from 'zod';
import { type Permission, TENANT_PERMISSIONS } from '../../core/authorization/permissions.js';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { type ApiToken, TOKEN_KINDS } from './api-token.js';

const EXAMPLE_ID = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';
const MOST_IDS = 100;
const MOST_ORIGINS = 50;
const MOST_OVERLAP_S = 30 * 24 * 3600;

/** Of any alphabet; two spellings that look the same are the same name. */
const nameField = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .refine(name => !/\p{Cc}/u.test(name), 'must not hold control characters')
  .transform(name => name.normalize('NFC').replace(/\s+/gu, ' '))
  .meta({ example: 'Production' });

const scopesField = z
  .array(z.enum(TENANT_PERMISSIONS as [Permission, ...Permission[]]))
  .min(1)
  .max(TENANT_PERMISSIONS.length)
  .describe('Permissions of the tenant, of those that one holds oneself')
  .meta({ example: ['query:run', 'document:read'] });

const idsField = z
  .array(z.uuid().transform(id => id.toLowerCase()))
  .min(1)
  .max(MOST_IDS)
  .transform(ids => [...new Set(ids)].toSorted())
  .nullable();
const kbIdsField = idsField.describe(
  'The only knowledge bases that it opens; null: all that its creator sees',
);
const agentIdsField = idsField.describe('The only agents that it may ask; null: all');

const originField = z
  .string()
  .max(300)
  .transform((text, context) => {
    const origin = originOf(text);
    if (origin !== null) return origin;
    context.addIssue({ code: 'custom', message: 'must be an origin, like https://www.example.com' });
    return z.NEVER;
  });
const originsField = z
  .array(originField)
  .max(MOST_ORIGINS)
  .transform(origins => [...new Set(origins)])
  .describe('Of publishable tokens: the web pages that they may stand in')
  .meta({ example: ['https://www.example.com'] });

const rateField = z.int().min(1).max(1_000_000).describe('Requests a minute at most');
const budgetField = z
  .int()
  .min(0)
  .max(Number.MAX_SAFE_INTEGER)
  .nullable()
  .describe('Micro-credits a calendar month (UTC); null: no limit of its own');
const expiresField = z.iso
  .datetime({ offset: true })
  .transform(time => new Date(time))
  .nullable()
  .describe('Null: never')
  .meta({ example: '2027-01-31T00:00:00Z' });

export const createApiTokenSchema = z
  .strictObject({
    name: nameField,
    kind: z
      .enum(TOKEN_KINDS)
      .default('live')
      .describe('test: for trying out, told apart by its secret; publishable: for web pages'),
    scopes: scopesField
      .optional()
      .describe('Needed, but by publishable ones, which may exactly query:run and chat:own'),
    kb_ids: kbIdsField.optional(),
    agent_ids: agentIdsField.optional(),
    allowed_origins: originsField.default([]),
    rate_limit_per_minute: rateField.optional().describe('Requests a minute at most [60]'),
    monthly_credit_budget: budgetField.optional(),
    expires_at: expiresField.optional(),
  })
  .refine(({ kind, scopes }) => kind === 'publishable' || scopes !== undefined, {
    path: ['scopes'],
    message: 'says what the token is for',
  })
  .describe('What an API token leaves out, of those that it makes, is as it is with itself.')
  .meta({
    id: 'CreateApiToken',
    example: { name: 'Production', scopes: ['query:run', 'document:read'], kb_ids: [EXAMPLE_ID] },
  });

export const updateApiTokenSchema = z
  .strictObject({
    name: nameField.optional(),
    scopes: scopesField.optional(),
    kb_ids: kbIdsField.optional(),
    agent_ids: agentIdsField.optional(),
    allowed_origins: originsField.optional(),
    rate_limit_per_minute: rateField.optional(),
    monthly_credit_budget: budgetField.optional(),
    expires_at: expiresField.optional(),
    is_active: z.boolean().optional().describe('False stops it at once, until it is true again'),
  })
  .meta({ id: 'UpdateApiToken', example: { rate_limit_per_minute: 120 } });

export const rotateApiTokenSchema = z
  .strictObject({
    overlap_seconds: z
      .int()
      .min(0)
      .max(MOST_OVERLAP_S)
      .default(24 * 3600)
      .describe('For how long the secret of before stays good, too [24 hours]'),
  })
  .default({ overlap_seconds: 24 * 3600 })
  .meta({ id: 'RotateApiToken', example: { overlap_seconds: 3600 } });

const flag = z.enum(['true', 'false']).transform(value => value === 'true');

export const listApiTokensQuery = listQuery(['created_at', 'name', 'last_used_at', 'expires_at'], {
  kind: z.enum(TOKEN_KINDS).optional(),
  is_active: flag.optional(),
  expired: flag.optional(),
  created_by: z.uuid().optional(),
  kb_id: z.uuid().optional().describe('Those that open this knowledge base alone, or among others by its id'),
});

export const apiTokenSchema = z
  .object({
    id: z.uuid(),
    name: z.string().meta({ example: 'Production' }),
    kind: z.enum(TOKEN_KINDS),
    prefix: z.string().nullable().describe('How its secret begins').meta({ example: 'rk_live_Zk3v9QxA' }),
    scopes: z.array(z.string()).meta({ example: ['query:run', 'document:read'] }),
    kb_ids: z.array(z.uuid()).nullable().describe('Null: all that its creator sees'),
    agent_ids: z.array(z.uuid()).nullable(),
    allowed_origins: z.array(z.string()),
    rate_limit_per_minute: z.int(),
    monthly_credit_budget: z.int().nullable().describe('Micro-credits a calendar month; null: no limit'),
    expires_at: z.iso.datetime().nullable(),
    last_used_at: z.iso.datetime().nullable().describe('To the minute'),
    created_by: z.uuid().nullable().describe('Above whom it never is; null where the account is gone'),
    is_active: z.boolean(),
    secrets: z
      .array(
        z.object({
          prefix: z.string(),
          created_at: z.iso.datetime(),
          expires_at: z.iso.datetime().nullable(),
        }),
      )
      .describe('Those that are good: the newest, and others until their overlap with it ends'),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'ApiToken' });

export const issuedApiTokenSchema = apiTokenSchema
  .extend({
    secret: z
      .string()
      .describe('Shown this once; send it as `Authorization: Bearer …` or `X-API-Key: …`')
      .meta({ example: 'rk_live_Zk3v9QxA…' }),
  })
  .meta({ id: 'IssuedApiToken' });

export const apiTokenPageSchema = pageSchema(apiTokenSchema, 'ApiTokenPage');

export type CreateApiToken = z.infer<typeof createApiTokenSchema>;
export type UpdateApiToken = z.infer<typeof updateApiTokenSchema>;
export type RotateApiToken = z.infer<typeof rotateApiTokenSchema>;
export type ListApiTokens = z.infer<typeof listApiTokensQuery>;

/** A token with the secret that is shown once. */
export interface IssuedApiToken {
  token: ApiToken;
  secret: string;
}

export function toApiToken(token: ApiToken): z.infer<typeof apiTokenSchema> {
  return {
    id: token.id,
    name: token.name,
    kind: token.kind,
    prefix: token.secrets[0]?.prefix ?? null,
    scopes: [...token.scopes],
    kb_ids: token.kbIds && [...token.kbIds],
    agent_ids: token.agentIds && [...token.agentIds],
    allowed_origins: [...token.allowedOrigins],
    rate_limit_per_minute: token.rateLimitPerMinute,
    monthly_credit_budget: token.monthlyCreditBudget,
    expires_at: token.expiresAt?.toISOString() ?? null,
    last_used_at: token.lastUsedAt?.toISOString() ?? null,
    created_by: token.createdBy,
    is_active: token.isActive,
    secrets: token.secrets.map(({ prefix, createdAt, expiresAt }) => ({
      prefix,
      created_at: createdAt.toISOString(),
      expires_at: expiresAt?.toISOString() ?? null,
    })),
    created_at: token.createdAt.toISOString(),
    updated_at: token.updatedAt.toISOString(),
  };
}

export const toIssuedApiToken = ({
  token,
  secret,
}: IssuedApiToken): z.infer<typeof issuedApiTokenSchema> => ({ ...toApiToken(token), secret });

/** As browsers write it in the header `Origin`; null for what is none. */
function originOf(text: string): string | null {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return null;
  const { origin, href, username, password } = new URL(text);
  return href === `${origin}/` && !username && !password ? origin : null;
}
