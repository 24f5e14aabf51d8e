import { z } from 'zod';
import { pageQuery, pageSchema } from '../../foundation/http/pagination.js';

/** Bytes in UTF-8. */
const LONGEST_VALUE = 8 * 1024;

export const setVariableSchema = z
  .strictObject({
    value: z
      .string()
      .min(1)
      .refine(value => Buffer.byteLength(value) <= LONGEST_VALUE, 'must not be larger than 8 kB'),
  })
  .meta({ id: 'SetVariable', example: { value: 'https://analytics.example.com' } });

export const listVariablesQuery = pageQuery;

export const variableSchema = z
  .object({
    name: z.string().meta({ example: 'ANALYTICS_ENDPOINT' }),
    updated_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'TenantVariable', description: 'A variable without its value, which is never shown again' });

export const variablePageSchema = pageSchema(variableSchema, 'TenantVariablePage');

export type SetVariable = z.infer<typeof setVariableSchema>;
export type ListVariables = z.infer<typeof listVariablesQuery>;

export interface TenantVariable {
  name: string;
  updatedBy: string | null;
  createdAt: Date;
  updatedAt: Date;
}

export function toVariable(variable: TenantVariable): z.infer<typeof variableSchema> {
  return {
    name: variable.name,
    updated_by: variable.updatedBy,
    created_at: variable.createdAt.toISOString(),
    updated_at: variable.updatedAt.toISOString(),
  };
}
