import { z } from 'zod';
import { FEATURE_FLAGS, featureChangesSchema } from '../../core/tenancy/feature-flags.js';
import type { ResolvedFeature } from '../../core/tenancy/features.service.js';
import { jsonValue } from '../../foundation/http/free-json.js';

export const changeFeaturesSchema = z
  .strictObject({
    features: featureChangesSchema.describe(
      'Those that are left out stay as they are; null goes back to the default',
    ),
  })
  .meta({ id: 'ChangeFeatures', example: { features: { invitation_days: 14, custom_roles: null } } });

export const featuresSchema = z
  .object({
    items: z.array(
      z.object({
        name: z.string().meta({ example: 'invitation_days' }),
        description: z.string(),
        schema: z.record(z.string(), jsonValue).describe('JSON Schema of its values'),
        value: jsonValue.describe('What holds'),
        level: z.enum(['default', 'platform', 'tenant']).describe('What set it'),
        default: jsonValue,
      }),
    ),
    features: z
      .record(z.string(), jsonValue)
      .describe('The same for programs: what holds, by name')
      .meta({ example: { invitations: true, invitation_days: 7 } }),
  })
  .meta({ id: 'Features' });

export type ChangeFeatures = z.infer<typeof changeFeaturesSchema>;

export function toFeatures(features: readonly ResolvedFeature[]): z.infer<typeof featuresSchema> {
  return {
    items: features.map(({ name, value, level }) => {
      const { description, schema, default: fallback } = FEATURE_FLAGS[name];
      return { name, description, schema: jsonSchemaOf(schema), value, level, default: fallback };
    }),
    features: Object.fromEntries(features.map(({ name, value }) => [name, value])),
  };
}

function jsonSchemaOf(schema: z.ZodType): Record<string, z.core.util.JSONType> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema) as Record<string, z.core.util.JSONType>;
  return rest;
}
