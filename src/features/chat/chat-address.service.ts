import { Injectable } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { Problem } from '../../foundation/http/problem.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';

/** Which knowledge base is asked where the path names none. */
@Injectable()
export class ChatAddress {
  constructor(
    private readonly context: TenantContext,
    private readonly authorization: AuthorizationService,
    private readonly knowledgeBases: KnowledgeBasesService,
  ) {}

  /**
   * @param references ids or slugs that the request names; without any it is the only one that the caller sees
   * @returns its id. @throws Problem 400 `kb_mismatch`; 403; 404; 422 `kb_missing`
   */
  async knowledgeBase(references: readonly string[]): Promise<string> {
    const named = await Promise.all(references.map(reference => this.knowledgeBases.get(reference)));
    const kb = named[0] ?? (await this.knowledgeBases.only());
    if (!kb) {
      throw Problem.invalid([
        {
          path: 'kb',
          code: 'kb_missing',
          message: 'Name the knowledge base, in the query or with the header X-KB-ID.',
        },
      ]);
    }
    if (named.some(({ id }) => id !== kb.id))
      throw Problem.malformed('kb_mismatch', 'The request names different knowledge bases.');
    // The guard does not know which one it is, where the request names none.
    const { subject, tenant } = this.context;
    if (!(await this.authorization.canInKb(subject, tenant.id, kb.id, 'query:run')))
      throw Problem.forbidden('This needs the permission query:run.');
    return kb.id;
  }
}
