import { z } from 'zod';
import { CONFIG_FIELDS, CONFIG_LEVELS, CONFIG_NAMES, type ConfigName } from './tenant-config.js';

type Resolved = {
  [Name in ConfigName]: z.ZodObject<{
    value: (typeof CONFIG_FIELDS)[Name]['schema'];
    level: z.ZodEnum<{ default: 'default'; tenant: 'tenant'; kb: 'kb' }>;
  }>;
};
type Changes = {
  [Name in ConfigName]: z.ZodOptional<z.ZodNullable<(typeof CONFIG_FIELDS)[Name]['schema']>>;
};

const level = z.enum(CONFIG_LEVELS).describe('What set it');

/** Each field with the value that holds, and the level that set it. */
export const resolvedConfigSchema = z
  .object({
    config: z.object(
      Object.fromEntries(
        CONFIG_NAMES.map(name => [name, z.object({ value: CONFIG_FIELDS[name].schema, level })]),
      ) as unknown as Resolved,
    ),
  })
  .meta({ id: 'ResolvedConfig' });

/** Changes of what one level sets: null removes a value. */
export const configChangesSchema = z
  .strictObject(
    Object.fromEntries(
      CONFIG_NAMES.map(name => [name, CONFIG_FIELDS[name].schema.nullable().optional()]),
    ) as unknown as Changes,
  )
  .meta({ id: 'ConfigChanges', example: { top_k: 20, system_prompt: null } });

export type ConfigChanges = z.infer<typeof configChangesSchema>;
