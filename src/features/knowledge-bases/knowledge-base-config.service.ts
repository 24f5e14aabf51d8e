import { Injectable } from '@nestjs/common';
import { type ResolvedConfig, resolveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { KnowledgeBasesService } from './knowledge-bases.service.js';

@Injectable()
export class KnowledgeBaseConfigService {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly knowledgeBases: KnowledgeBasesService,
  ) {}

  /** What holds in a knowledge base, and which level set it. @param reference id or slug. @throws Problem 404 */
  async get(reference: string): Promise<ResolvedConfig> {
    const tenant = await this.directory.find(this.context.tenant.id);
    const kb = await this.knowledgeBases.get(reference);
    return resolveConfig(['tenant', tenant?.config ?? {}], ['kb', kb.config]);
  }
}
