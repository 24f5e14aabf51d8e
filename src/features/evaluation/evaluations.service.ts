import { Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { canonicalJson } from '../../core/audit/audit-entry.js';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import type { Evaluation, EvaluationQuestion, EvaluationVariant } from './evaluation.js';
import { EvaluationOutcomes, hasEnded } from './evaluation-outcomes.service.js';
import { EVALUATION_JOB, type EvaluationPayload } from './evaluation-runner.service.js';
import type { CreateEvaluation, ListEvaluations, ListResults, ListedOutcome } from './evaluations.dto.js';
import { EvaluationsRepository } from './evaluations.repository.js';

/** Of one knowledge base. */
const MOST_UNFINISHED = 5;
const MOST_KEPT = 200;

/** Evaluations of the knowledge bases of the context's tenant. */
@Injectable()
export class EvaluationsService {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly evaluations: EvaluationsRepository,
    private readonly outcomes: EvaluationOutcomes,
    private readonly jobs: BackgroundJobs,
    private readonly audit: AuditService,
  ) {}

  /**
   * Starts one: its questions are asked with the rights of whoever starts it.
   *
   * @throws Problem 403, 404, 409 `too_many_evaluations`
   */
  async create(kbReference: string, input: CreateEvaluation): Promise<Evaluation> {
    await this.requireAsking(kbReference);
    const ofTenant = (await this.directory.find(this.context.tenant.id))?.config ?? {};
    const questions = input.questions.map(withAnswerable);
    const id = uuidv7();
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      await this.requireRoom(tx, kb.id);
      const tenantId = this.context.tenant.id;
      const jobId = await this.jobs.enqueue(tx, {
        kind: EVALUATION_JOB,
        payload: { evaluationId: id } satisfies EvaluationPayload,
        tenantId,
        permission: 'kb:update',
      });
      const name = input.name ?? `Evaluation of ${kb.name}`.slice(0, 200);
      const { variants } = input;
      await this.evaluations.insert(tx, {
        id,
        tenantId,
        kbId: kb.id,
        name,
        ...this.starter(),
        jobId,
        questions,
        questionSet: questionSetOf(questions),
        variants,
        settings: settingsOf(kb, ofTenant),
      });
      this.audit.record(tx, {
        action: 'evaluation.started',
        resource: { type: 'evaluation', id },
        details: {
          kb_id: kb.id,
          name,
          questions: questions.length,
          variants: variants.map(variant => variant.name),
        },
      });
      return this.asSeen(await this.require(tx, kb.id, id));
    });
  }

  /** @throws Problem 404 */
  list(kbReference: string, query: ListEvaluations): Promise<Page<Evaluation>> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      const { items, total } = await this.evaluations.list(tx, kb.id, query);
      return { items: items.map(item => this.asSeen(item)), total };
    });
  }

  /** @throws Problem 404 */
  get(kbReference: string, id: string): Promise<Evaluation> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      return this.asSeen(await this.require(tx, kb.id, id));
    });
  }

  /**
   * Question by question, for whoever has started it, and for those who see everything of the tenant.
   *
   * @throws Problem 403, 404, 422
   */
  results(kbReference: string, id: string, query: ListResults): Promise<Page<ListedOutcome>> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      const evaluation = await this.require(tx, kb.id, id);
      if (!(await this.evaluations.showsDetails(tx, id)))
        throw Problem.forbidden('What was asked is for whoever has started this evaluation.');
      const variant =
        query.variant === undefined
          ? null
          : evaluation.variants.findIndex(({ name }) => name === query.variant);
      if (variant === -1) throw unknownVariant(evaluation);
      return this.evaluations.listOutcomes(tx, evaluation, variant, query);
    });
  }

  /** What was asked by then stays, with its figures. @throws Problem 404, 409 `already_ended` */
  async cancel(kbReference: string, id: string): Promise<Evaluation> {
    const { id: found } = await this.get(kbReference, id);
    const evaluation = await this.seeingDetails(tx => this.end(tx, found));
    // Its worker lets go of it: what it asks just now comes to nothing.
    await this.jobs.withdraw(evaluation.jobId);
    return this.asSeen(evaluation);
  }

  /** @throws Problem 404 */
  async delete(kbReference: string, id: string): Promise<void> {
    const jobId = await this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      const evaluation = await this.require(tx, kb.id, id);
      await this.evaluations.delete(tx, id);
      this.audit.record(tx, {
        action: 'evaluation.deleted',
        resource: { type: 'evaluation', id },
        details: { kb_id: kb.id, name: evaluation.name, status: evaluation.status },
      });
      return hasEnded(evaluation) ? null : evaluation.jobId;
    });
    if (jobId) await this.jobs.withdraw(jobId);
  }

  private async end(tx: Tx, id: string): Promise<Evaluation> {
    if (!(await this.outcomes.end(tx, id, 'cancelled')))
      throw Problem.conflict('already_ended', 'This evaluation has ended.');
    const evaluation = await this.evaluations.lock(tx, id);
    if (!evaluation) throw Problem.notFound('evaluation');
    this.audit.record(tx, {
      action: 'evaluation.cancelled',
      resource: { type: 'evaluation', id },
      details: { kb_id: evaluation.kbId, name: evaluation.name },
    });
    return evaluation;
  }

  /** The figures are made of everything, whoever has asked for their making. */
  private seeingDetails<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    const { tenant, actor } = this.context;
    return this.context.runAsSystem(tenant, () => this.database.run(work), actor);
  }

  /**
   * Its counts are of all documents, for those who see all of them. Prompts and filters of its variants, which may quote what
   * they are of, are for whom the questions are for.
   */
  private asSeen(evaluation: Evaluation): Evaluation {
    if (this.context.access.all) return evaluation;
    const { document_count: _documents, chunk_count: _chunks, ...settings } = evaluation.settings;
    const variants = this.hasStarted(evaluation) ? evaluation.variants : evaluation.variants.map(withoutText);
    return { ...evaluation, settings, variants };
  }

  private hasStarted({ userId, tokenId }: Evaluation): boolean {
    const { principal } = this.context;
    if (principal.kind === 'user') return principal.userId === userId;
    return principal.kind === 'api_token' && principal.tokenId === tokenId;
  }

  private async require(tx: Tx, kbId: string, id: string): Promise<Evaluation> {
    const evaluation = await this.evaluations.find(tx, kbId, id);
    if (!evaluation) throw Problem.notFound('evaluation');
    return evaluation;
  }

  /** To change a knowledge base is not to ask it; evaluating it takes both. */
  private async requireAsking(kb: string): Promise<void> {
    const { principal, tenant } = this.context;
    if (principal.kind === 'system') return;
    if (!(await this.authorization.canInKb(this.context.subject, tenant.id, kb, 'query:run')))
      throw Problem.forbidden('This needs the permission query:run.');
  }

  private async requireRoom(tx: Tx, kbId: string): Promise<void> {
    const { all, unfinished } = await this.evaluations.count(tx, kbId);
    if (unfinished >= MOST_UNFINISHED)
      throw tooMany(`${unfinished} evaluations of this knowledge base have not ended yet.`);
    if (all >= MOST_KEPT)
      throw tooMany(`This knowledge base has ${all} evaluations: delete some of them first.`);
  }

  private starter(): Pick<Evaluation, 'startedAs' | 'userId' | 'tokenId'> {
    const { principal } = this.context;
    switch (principal.kind) {
      case 'user':
        return { startedAs: 'user', userId: principal.userId, tokenId: null };
      case 'api_token':
        return { startedAs: 'api_token', userId: null, tokenId: principal.tokenId };
      case 'system':
        return { startedAs: 'system', userId: null, tokenId: null };
    }
  }
}

/** Whoever names what answers a question says that something does. */
const withAnswerable = (question: EvaluationQuestion): EvaluationQuestion => ({
  ...question,
  answerable: question.answerable ?? (question.relevant.length + question.answers.length > 0 ? true : null),
});

const questionSetOf = (questions: readonly EvaluationQuestion[]): string =>
  createHash('sha256').update(canonicalJson({ questions })).digest('hex').slice(0, 16);

function settingsOf(kb: KnowledgeBase, ofTenant: KnowledgeBase['config']): Record<string, unknown> {
  // Whoever reads figures need not read the prompt.
  const { system_prompt: _prompt, ...config } = effectiveConfig(ofTenant, kb.config);
  return {
    ...config,
    embedding_model: kb.embeddingModel ?? config.embedding_model,
    language: kb.language,
    document_count: kb.documentCount,
    chunk_count: kb.chunkCount,
  };
}

const withoutText = ({ filter: _filter, system_prompt: _prompt, ...variant }: EvaluationVariant) => variant;

const tooMany = (detail: string): Problem => Problem.conflict('too_many_evaluations', detail);

const unknownVariant = ({ variants }: Evaluation): Problem =>
  Problem.invalid([
    {
      path: 'variant',
      code: 'unknown_variant',
      message: `must be one of ${variants.map(({ name }) => name).join(', ')}`,
    },
  ]);
