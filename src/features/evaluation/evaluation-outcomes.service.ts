import { Injectable } from '@nestjs/common';
import { EventsService } from '../../core/events/events.service.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Evaluation, EvaluationStatus } from './evaluation.js';
import { EvaluationsRepository } from './evaluations.repository.js';
import { figuresOf } from './figures.js';

/** How evaluations end: with the figures of what was asked by then. */
@Injectable()
export class EvaluationOutcomes {
  constructor(
    private readonly evaluations: EvaluationsRepository,
    private readonly events: EventsService,
  ) {}

  /**
   * As somebody who sees the details of all of the tenant.
   *
   * @returns false where it has ended before, or is gone
   */
  async end(
    tx: Tx,
    id: string,
    status: EvaluationStatus & ('done' | 'failed' | 'cancelled'),
    error: { code: string; message: string } | null = null,
  ): Promise<boolean> {
    const evaluation = await this.evaluations.lock(tx, id);
    if (!evaluation || hasEnded(evaluation)) return false;
    const { kbId, name, variants } = evaluation;
    const figures = [];
    for (const [index, variant] of variants.entries()) {
      figures.push(figuresOf(variant.name, await this.evaluations.outcomesOf(tx, id, index)));
    }
    await this.evaluations.end(tx, id, status, figures, error);
    this.events.publish(tx, {
      type: 'evaluation.finished',
      data: { evaluation_id: id, kb_id: kbId, name, status },
    });
    return true;
  }
}

export const hasEnded = ({ status }: Pick<Evaluation, 'status'>): boolean =>
  status !== 'queued' && status !== 'running';
