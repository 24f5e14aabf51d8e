import { Injectable } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { Problem } from '../../foundation/http/problem.js';
import { AskedKbsRepository } from './asked-kbs.repository.js';
import { MOST_KBS } from './rag-query.dto.js';

/** Which knowledge bases a question goes to that may go to several: each under the caller's own rights in it. */
@Injectable()
export class AskableKbsService {
  constructor(
    private readonly context: TenantContext,
    private readonly authorization: AuthorizationService,
    private readonly database: TenantDatabase,
    private readonly repository: AskedKbsRepository,
  ) {}

  /**
   * @param references ids or slugs that the question names; null: all active ones that the caller may ask
   * @param beside those that the request names outside of its body
   * @returns ids, each once
   * @throws Problem 404 where one is not there, or may not be asked; 400 `kb_mismatch`; 422 `too_many_kbs`
   */
  async choose(references: readonly string[] | null, beside: readonly string[]): Promise<string[]> {
    const chosen = references ?? (beside.length > 0 ? beside : null);
    if (!chosen) return this.all();
    const kbs = await this.database.run(tx => this.repository.find(tx, chosen));
    const ids = kbs?.map(({ id }) => id) ?? [];
    if (!kbs || (await this.askable(ids)).length < ids.length) throw Problem.notFound('knowledge base');
    if (references && beside.length > 0) await this.requireSame(ids, beside);
    if (!references && ids.length > 1) throw mismatch();
    return ids;
  }

  private async all(): Promise<string[]> {
    const seen = await this.database.run(tx => this.repository.active(tx));
    const ids = await this.askable(seen);
    if (ids.length === 0) throw Problem.notFound('knowledge base');
    if (ids.length > MOST_KBS) {
      throw new Problem(
        422,
        'too_many_kbs',
        `There are ${ids.length} knowledge bases that may be asked: name those that are meant, at most ${MOST_KBS}.`,
      );
    }
    return ids;
  }

  private async askable(ids: readonly string[]): Promise<string[]> {
    const { subject, tenant } = this.context;
    const allowed = await Promise.all(
      ids.map(async id => this.authorization.canInKb(subject, tenant.id, id, 'query:run')),
    );
    return ids.filter((_, index) => allowed[index]);
  }

  /** What a header chooses must be among what the body names. */
  private async requireSame(ids: readonly string[], beside: readonly string[]): Promise<void> {
    const named = await this.database.run(tx => this.repository.find(tx, beside));
    if (!named) throw Problem.notFound('knowledge base');
    if (named.length !== 1 || ids.length !== 1 || named[0]?.id !== ids[0]) throw mismatch();
  }
}

const mismatch = (): Problem =>
  Problem.malformed('kb_mismatch', 'The request names different knowledge bases.');
