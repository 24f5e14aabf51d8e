import { z } from 'zod';
import { PLAN_TIERS } from '../../core/tenancy/tenant-limits.js';
import { freeJson, jsonValue } from '../../foundation/http/free-json.js';
import { type FieldError, Problem } from '../../foundation/http/problem.js';
import { isTimezone } from '../users/users.dto.js';
import { TENANT_TYPES } from './tenant.entity.js';

/** Words that stand in the place of a tenant's name in addresses of this API, or would read as if they did. */
const RESERVED_NAMES = ['restore', 'migrate', 'platform', 'me', 'new'];

/** The form of a slug: of a tenant, of a template. */
export const slugField = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?$/, 'must be lowercase letters, digits, dashes and underscores');

export const tenantNameField = slugField
  // A name that looks like an id could stand for another tenant in a path.
  .refine(name => !z.uuid().safeParse(name).success, 'must not be a UUID')
  .refine(name => !RESERVED_NAMES.includes(name), 'is reserved')
  .meta({ example: 'acme-corp' });

export const tenantDisplayNameField = z.string().trim().min(1).max(200).meta({ example: 'Acme Corporation' });

export const tenantDescriptionField = z.string().max(2000);
export const tenantTypeField = z.enum(TENANT_TYPES);
export const planTierField = z.enum(PLAN_TIERS);

const httpsAddress = z.url({ protocol: /^https$/, error: 'must be an address that starts with https://' });

/** Free JSON, of which these keys mean something. */
export const tenantSettingsSchema = z
  .object({
    timezone: z
      .string()
      .max(64)
      .refine(isTimezone, 'must be an IANA time zone such as Europe/Zurich')
      .optional(),
    data_retention_days: z
      .int()
      .min(1)
      .max(36_500)
      .optional()
      .describe('Documents whose content is older are deleted'),
    notification_email: z.email().max(254).optional(),
    notification_webhook: httpsAddress.max(2000).optional(),
    allowed_document_types: z
      .array(z.string().min(1).max(100))
      .max(200)
      .optional()
      .describe(
        'Endings of file names (pdf, docx) or MIME types (text/markdown, text/*); all where it is empty',
      ),
  })
  .catchall(jsonValue)
  .refine(settings => freeJson.safeParse(settings).success, 'must not be larger than 64 kB')
  .meta({ id: 'TenantSettings', example: { timezone: 'Europe/Zurich', data_retention_days: 90 } });

export const brandingSchema = z
  .strictObject({
    logo_url: httpsAddress.max(2000).optional(),
    primary_color: z
      .string()
      .regex(/^#[0-9a-fA-F]{6}$/, 'must be a colour such as #007bff')
      .optional(),
    company_name: z.string().trim().min(1).max(200).optional(),
  })
  .meta({ id: 'TenantBranding', example: { primary_color: '#007bff', company_name: 'Acme' } });

/** A JSON Merge Patch (RFC 7396) of a field; what comes of it is checked as a whole. */
export const patchField = freeJson.describe('Merged into what there is (RFC 7396): null removes a key');

export type TenantSettings = z.infer<typeof tenantSettingsSchema>;

/**
 * Checks what came of a merge, or of placeholders: what a request's own schema could not see yet.
 *
 * @param path of the field, for the errors
 * @throws Problem 422
 */
export function requireValid<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  path: string,
): z.output<Schema> {
  const { data, error } = schema.safeParse(value);
  if (error) throw Problem.invalid(fieldErrors(error, path));
  return data;
}

export function fieldErrors(error: z.ZodError, path: string): FieldError[] {
  return error.issues.flatMap(issue => {
    const at = [path, ...issue.path.map(String)].filter(part => part !== '');
    if (issue.code !== 'unrecognized_keys') {
      return [{ path: at.join('.'), code: issue.code, message: issue.message }];
    }
    return issue.keys.map(key => ({
      path: [...at, key].join('.'),
      code: 'unknown_field',
      message: 'There is no such field.',
    }));
  });
}
