import type { z } from 'zod';
import { configOverridesSchema } from '../../core/tenancy/tenant-config.js';

/** What a knowledge base sets itself; everything else is its tenant's, or the default. */
export const configSchema = configOverridesSchema.meta({ id: 'KnowledgeBaseConfig' });

export type KnowledgeBaseConfig = z.infer<typeof configSchema>;
