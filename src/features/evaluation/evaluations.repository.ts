import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type {
  Evaluation,
  EvaluationQuestion,
  EvaluationStatus,
  Outcome,
  VariantFigures,
} from './evaluation.js';
import type { ListEvaluations, ListedOutcome } from './evaluations.dto.js';
import type { JudgedOutcome } from './figures.js';
import type { DocumentSources } from './judgement.js';

const SORTABLE = { created_at: 'created_at', name: 'lower(name)' };

const EVALUATION = `
  id, kb_id AS "kbId", name, started_as AS "startedAs", user_id AS "userId", token_id AS "tokenId", job_id AS "jobId",
  status, question_count AS "questionCount", question_set AS "questionSet", variants, settings,
  result_count AS "resultCount", figures, error_code AS "errorCode", error_message AS "errorMessage",
  created_at AS "createdAt", updated_at AS "updatedAt", started_at AS "startedAt", finished_at AS "finishedAt"`;

/** What making one says. */
export type NewEvaluation = Pick<
  Evaluation,
  | 'id'
  | 'kbId'
  | 'name'
  | 'startedAs'
  | 'userId'
  | 'tokenId'
  | 'jobId'
  | 'questionSet'
  | 'variants'
  | 'settings'
> & { tenantId: string; questions: readonly EvaluationQuestion[] };

/** Evaluations of the transaction's tenant. What their questions are is shown to those who have started them. */
@Injectable()
export class EvaluationsRepository {
  async find(tx: Tx, kbId: string, id: string): Promise<Evaluation | null> {
    const rows: Evaluation[] = await tx.query(
      `SELECT ${EVALUATION} FROM evaluations WHERE kb_id = $1 AND id = $2`,
      [kbId, id],
    );
    return rows[0] ?? null;
  }

  /** Nobody else changes it until the transaction ends. */
  async lock(tx: Tx, id: string): Promise<Evaluation | null> {
    const rows: Evaluation[] = await tx.query(
      `SELECT ${EVALUATION} FROM evaluations WHERE id = $1 FOR NO KEY UPDATE`,
      [id],
    );
    return rows[0] ?? null;
  }

  async idOfJob(tx: Tx, jobId: string): Promise<string | null> {
    const rows: Array<{ id: string }> = await tx.query('SELECT id FROM evaluations WHERE job_id = $1', [
      jobId,
    ]);
    return rows[0]?.id ?? null;
  }

  async list(tx: Tx, kbId: string, query: ListEvaluations): Promise<Page<Evaluation>> {
    const conditions = ['kb_id = $1'];
    const parameters: unknown[] = [kbId];
    const { status, question_set: questionSet, search } = query;
    if (status) conditions.push(`status = $${parameters.push(status)}`);
    if (questionSet) conditions.push(`question_set = $${parameters.push(questionSet)}`);
    if (search) conditions.push(`name ILIKE $${parameters.push(likePattern(search))}`);
    const where = conditions.join(' AND ');
    const items: Evaluation[] = await tx.query(
      `SELECT ${EVALUATION} FROM evaluations WHERE ${where} ORDER BY ${orderBy(query.sort, SORTABLE)}, id
       LIMIT ${query.page_size} OFFSET ${(query.page - 1) * query.page_size}`,
      parameters,
    );
    const [{ total }]: [{ total: number }] = await tx.query(
      `SELECT count(*)::int AS total FROM evaluations WHERE ${where}`,
      parameters,
    );
    return { items, total };
  }

  /** How many a knowledge base has. No other one is added to it until the transaction ends. */
  async count(tx: Tx, kbId: string): Promise<{ all: number; unfinished: number }> {
    await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('evaluations/' || $1, 0))`, [kbId]);
    const [counts]: [{ all: number; unfinished: number }] = await tx.query(
      `SELECT count(*)::int AS "all", (count(*) FILTER (WHERE status IN ('queued', 'running')))::int AS unfinished
       FROM evaluations WHERE kb_id = $1`,
      [kbId],
    );
    return counts;
  }

  async insert(tx: Tx, evaluation: NewEvaluation): Promise<void> {
    const { id, tenantId, questions } = evaluation;
    await tx.query(
      `INSERT INTO evaluations (id, tenant_id, kb_id, name, started_as, user_id, token_id, job_id, question_count,
                                question_set, variants, settings)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
      [
        id,
        tenantId,
        evaluation.kbId,
        evaluation.name,
        evaluation.startedAs,
        evaluation.userId,
        evaluation.tokenId,
        evaluation.jobId,
        questions.length,
        evaluation.questionSet,
        JSON.stringify(evaluation.variants),
        JSON.stringify(evaluation.settings),
      ],
    );
    await tx.query(
      `INSERT INTO evaluation_questions (evaluation_id, tenant_id, position, question)
       SELECT $1, $2, place - 1, question FROM jsonb_array_elements($3::jsonb) WITH ORDINALITY AS q (question, place)`,
      [id, tenantId, JSON.stringify(questions)],
    );
  }

  /** @returns null where it has ended, or is gone */
  async begin(tx: Tx, id: string): Promise<Evaluation | null> {
    const [rows]: [Evaluation[]] = await tx.query(
      `UPDATE evaluations SET status = 'running', started_at = coalesce(started_at, now()), updated_at = now()
       WHERE id = $1 AND status IN ('queued', 'running') RETURNING ${EVALUATION}`,
      [id],
    );
    return rows[0] ?? null;
  }

  /** @param from the first one's position */
  async questions(tx: Tx, id: string, from: number, limit: number): Promise<EvaluationQuestion[]> {
    const rows: Array<{ question: EvaluationQuestion }> = await tx.query(
      `SELECT question FROM evaluation_questions WHERE evaluation_id = $1 AND position >= $2
       ORDER BY position LIMIT $3`,
      [id, from, limit],
    );
    return rows.map(({ question }) => question);
  }

  /**
   * Stores the outcome of a step, and goes on to the next one.
   *
   * @param result.givenUp whether there is none because a model was not there
   * @returns how many of the last were given up in a row; null where it has ended, or this is not its next step: then nothing
   *   is stored
   */
  async store(
    tx: Tx,
    id: string,
    result: { step: number; question: number; variant: number; outcome: Outcome; givenUp: boolean },
  ): Promise<number | null> {
    const rows: Array<{ givenUp: number }> = await tx.query(
      `WITH gone_on AS (
         UPDATE evaluations SET result_count = result_count + 1, updated_at = now(),
                given_up = CASE WHEN $6 THEN given_up + 1 ELSE 0 END
         WHERE id = $1 AND status = 'running' AND result_count = $2 RETURNING id, tenant_id, given_up),
       stored AS (
         INSERT INTO evaluation_results (evaluation_id, tenant_id, question, variant, outcome)
         SELECT id, tenant_id, $3, $4, $5 FROM gone_on)
       SELECT given_up AS "givenUp" FROM gone_on`,
      [id, result.step, result.question, result.variant, JSON.stringify(result.outcome), result.givenUp],
    );
    return rows[0]?.givenUp ?? null;
  }

  /** The outcomes of one variant, without what was found. */
  outcomesOf(tx: Tx, id: string, variant: number): Promise<JudgedOutcome[]> {
    return tx.query(
      `SELECT r.outcome - 'passages' AS outcome, (q.question->>'answerable')::boolean AS answerable
       FROM evaluation_results r
       JOIN evaluation_questions q ON q.evaluation_id = r.evaluation_id AND q.position = r.question
       WHERE r.evaluation_id = $1 AND r.variant = $2`,
      [id, variant],
    );
  }

  /** @param variant its position; null: of all */
  async listOutcomes(
    tx: Tx,
    { id, variants }: Evaluation,
    variant: number | null,
    { page, page_size: size, sort }: { page: number; page_size: number; sort: string },
  ): Promise<Page<ListedOutcome>> {
    const rows: Array<Omit<ListedOutcome, 'variant'> & { variant: number }> = await tx.query(
      `SELECT r.outcome, r.question AS position, q.question, r.variant
       FROM evaluation_results r
       JOIN evaluation_questions q ON q.evaluation_id = r.evaluation_id AND q.position = r.question
       WHERE r.evaluation_id = $1 AND ($2::integer IS NULL OR r.variant = $2)
       ORDER BY ${orderBy(sort, { question: 'r.question' })}, r.variant LIMIT $3 OFFSET $4`,
      [id, variant, size, (page - 1) * size],
    );
    const [{ total }]: [{ total: number }] = await tx.query(
      `SELECT count(*)::int AS total FROM evaluation_results
       WHERE evaluation_id = $1 AND ($2::integer IS NULL OR variant = $2)`,
      [id, variant],
    );
    return { items: rows.map(row => ({ ...row, variant: variants[row.variant]?.name ?? '' })), total };
  }

  /** Whether the principal sees what was asked. */
  async showsDetails(tx: Tx, id: string): Promise<boolean> {
    const [{ shown }]: [{ shown: boolean }] = await tx.query(
      'SELECT EXISTS (SELECT FROM evaluation_questions WHERE evaluation_id = $1) AS shown',
      [id],
    );
    return shown;
  }

  /** Of one that this transaction has locked. */
  async end(
    tx: Tx,
    id: string,
    status: EvaluationStatus,
    figures: readonly VariantFigures[],
    error: { code: string; message: string } | null,
  ): Promise<void> {
    await tx.query(
      `UPDATE evaluations SET status = $2, figures = $3, error_code = $4, error_message = $5, updated_at = now(),
              finished_at = now()
       WHERE id = $1`,
      [id, status, JSON.stringify(figures), error?.code ?? null, error?.message ?? null],
    );
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM evaluations WHERE id = $1', [id]);
  }

  /** What documents that the principal sees were made from. */
  async sourcesOf(tx: Tx, documentIds: readonly string[]): Promise<DocumentSources> {
    const rows: Array<{ id: string; sources: string[] }> = await tx.query(
      `SELECT id, array_remove(ARRAY[source_id, source_url], NULL) AS sources FROM documents WHERE id = ANY ($1::uuid[])`,
      [documentIds],
    );
    return new Map(rows.map(({ id, sources }) => [id, sources]));
  }
}
