import { z } from 'zod';

export const liveSchema = z.object({ status: z.literal('ok') }).meta({ id: 'Live' });

export const healthSchema = z
  .object({
    status: z.string().meta({ example: 'ok' }),
    checks: z
      .record(z.string(), z.object({ status: z.enum(['up', 'down']) }))
      .describe('By what is needed: `database`, `queue`, `storage`, `models`'),
  })
  .meta({ id: 'Health' });

export const versionSchema = z
  .object({ version: z.string() })
  .meta({ id: 'Version', example: { version: '0.1.0' } });
