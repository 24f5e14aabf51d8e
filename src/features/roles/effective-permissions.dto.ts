import { z } from 'zod';

export const effectivePermissionsQuery = z.strictObject({
  kb: z.string().min(1).max(63).optional().describe('Id or slug: what may be done in this knowledge base'),
  tenant: z.string().max(63).optional().describe('Only selects the tenant; must agree with the path.'),
});

const reasonSchema = z.object({
  role: z.string().meta({ example: 'admin' }),
  source: z
    .enum(['role', 'grant', 'group', 'platform'])
    .describe(
      'A role in the tenant; one granted on a knowledge base, to the member or a group; one of the platform',
    ),
  group: z.string().optional().describe('Name of the group'),
  kb: z.string().optional().describe('Slug of the knowledge base'),
  text: z.string().meta({ example: 'admin via group support on kb docs' }),
});

export const effectivePermissionsSchema = z
  .object({
    user_id: z.uuid(),
    kb: z.string().nullable().describe('Slug of the knowledge base that was asked for'),
    roles: z.array(z.string()).describe('Those that count in the tenant'),
    groups: z.array(z.object({ id: z.uuid(), name: z.string() })),
    sees_all: z.boolean().describe('Whether closed knowledge bases and restricted documents are seen too'),
    items: z.array(
      z.object({
        permission: z.string().meta({ example: 'document:create' }),
        allowed: z.boolean(),
        because: z.array(reasonSchema).describe('Everything that gives it; empty where it is not allowed'),
        why_not: z.string().nullable(),
      }),
    ),
  })
  .meta({ id: 'EffectivePermissions' });

export type Reason = z.infer<typeof reasonSchema>;
export type EffectivePermissions = z.infer<typeof effectivePermissionsSchema>;
