import { z } from 'zod';

/** A feature flag: what it is for, its type, and what it is where nobody has set it. */
interface FlagDeclaration<Schema extends z.ZodType> {
  description: string;
  schema: Schema;
  default: z.infer<Schema>;
}

const flag = <Schema extends z.ZodType>(declaration: FlagDeclaration<Schema>) => declaration;

/** Every feature flag there is. The platform may set other defaults (FEATURES), a tenant its own values. */
export const FEATURE_FLAGS = {
  invitations: flag({
    description: 'Whether members may be invited by e-mail',
    schema: z.boolean(),
    default: true,
  }),
  invitation_days: flag({
    description: 'Days after which an invitation expires',
    schema: z.int().min(1).max(90),
    default: 7,
  }),
  custom_roles: flag({
    description: 'Whether the tenant may make roles of its own',
    schema: z.boolean(),
    default: true,
  }),
  generated_answers: flag({
    description:
      'Whether answers are written by a chat model, where one is configured, or quoted from the documents',
    schema: z.boolean(),
    default: true,
  }),
  default_kb_visibility: flag({
    description: 'Who sees a new knowledge base: everybody in the tenant, or those it is granted to',
    schema: z.enum(['tenant', 'granted']),
    default: 'tenant' as const,
  }),
} as const;

export type FeatureName = keyof typeof FEATURE_FLAGS;
export type Features = { [Name in FeatureName]: z.infer<(typeof FEATURE_FLAGS)[Name]['schema']> };

export const FEATURE_NAMES = Object.keys(FEATURE_FLAGS) as FeatureName[];

type OptionalFlags = {
  [Name in FeatureName]: z.ZodOptional<(typeof FEATURE_FLAGS)[Name]['schema']>;
};
type NullableFlags = {
  [Name in FeatureName]: z.ZodOptional<z.ZodNullable<(typeof FEATURE_FLAGS)[Name]['schema']>>;
};

/** What one level sets. */
export const featureOverridesSchema = z.strictObject(
  Object.fromEntries(
    FEATURE_NAMES.map(name => [name, FEATURE_FLAGS[name].schema.optional()]),
  ) as unknown as OptionalFlags,
);

/** Changes of what one level sets: null removes a value. */
export const featureChangesSchema = z.strictObject(
  Object.fromEntries(
    FEATURE_NAMES.map(name => [name, FEATURE_FLAGS[name].schema.nullable().optional()]),
  ) as unknown as NullableFlags,
);
