import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import {
  BackgroundJobs,
  JobError,
  JobPause,
  JobRetry,
  type JobRun,
} from '../../core/jobs/background-jobs.service.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { type Evaluation, type EvaluationQuestion, type Outcome, stepOf } from './evaluation.js';
import { type Fault, faultOf } from './evaluation-fault.js';
import { EvaluationOutcomes } from './evaluation-outcomes.service.js';
import { EvaluationStarter } from './evaluation-starter.service.js';
import { EvaluationTrials } from './evaluation-trials.service.js';
import { EvaluationsRepository } from './evaluations.repository.js';

export const EVALUATION_JOB = 'evaluation';

export interface EvaluationPayload {
  evaluationId: string;
}

/** An evaluation asks for so long, and lets other jobs go first. */
const TURN_MS = 5_000;
/** Passing faults at one question before it is given up. */
const MOST_ATTEMPTS = 4;
/** Questions that are given up in a row: the model is not there, and asking on would lead nowhere. */
const MOST_GIVEN_UP = 3;
/** Seconds. */
const UNKNOWN_FAULT_DELAY = 5;
const QUESTIONS_AT_ONCE = 50;
/** Milliseconds between two reports of how far it is. */
const REPORT_EVERY_MS = 500;

/**
 * Asks the questions of evaluations, one after the other, a while each in turns. Each outcome is stored with the step that it
 * is of: whoever goes on, after a pause or another process's death, asks again at most the question that was under way.
 */
@Injectable()
export class EvaluationRunner implements OnModuleInit {
  private readonly logger = new Logger(EvaluationRunner.name);

  constructor(
    private readonly database: TenantDatabase,
    private readonly evaluations: EvaluationsRepository,
    private readonly outcomes: EvaluationOutcomes,
    private readonly starter: EvaluationStarter,
    private readonly trials: EvaluationTrials,
    private readonly jobs: BackgroundJobs,
  ) {}

  onModuleInit(): void {
    this.jobs.define<EvaluationPayload>({
      kind: EVALUATION_JOB,
      mostAttempts: MOST_ATTEMPTS,
      // Most of the time it waits for models.
      lane: 'outbound',
      // A long one leaves the others of this lane their places; several of a tenant take turns.
      mostPerTenant: 1,
      run: job => this.run(job),
      cancel: job => this.cancelled(job),
    });
  }

  private async run(job: JobRun<EvaluationPayload>): Promise<unknown> {
    const { evaluationId: id } = job.payload;
    const evaluation = await this.database.run(tx => this.evaluations.begin(tx, id));
    // Cancelled or deleted before its turn came.
    if (!evaluation) return { evaluation_id: id };
    const turn = new Turn(evaluation, job);
    try {
      await this.askAll(turn);
      await this.database.run(tx => this.outcomes.end(tx, id, 'done'));
    } catch (error) {
      if (job.signal.aborted || error instanceof JobPause) throw error;
      await this.failed(turn, error);
    }
    return { evaluation_id: id };
  }

  private async askAll(turn: Turn): Promise<void> {
    const { evaluation, job } = turn;
    for (; turn.step < turn.steps; turn.step++) {
      if (turn.isOver) throw new JobPause();
      job.signal.throwIfAborted();
      await turn.report();
      const { question: position, variant } = stepOf(turn.step, evaluation.variants.length);
      const question = await this.questionAt(turn, position);
      const settings = evaluation.variants[variant];
      // Both were stored with the evaluation.
      if (!question || !settings)
        throw new JobError('incomplete', 'A question of this evaluation is missing.');
      // Client libraries leave their listeners on a signal: each question has one of its own.
      const signal = AbortSignal.any([job.signal]);
      const { outcome, givenUp } = await this.starter
        .ask(evaluation, () => this.trials.run(evaluation.kbId, question, settings, signal))
        .then(
          result => ({ outcome: result, givenUp: false }),
          (error: unknown) => this.withoutOutcome(turn, error),
        );
      job.signal.throwIfAborted();
      const inARow = await this.database.run(tx =>
        this.evaluations.store(tx, evaluation.id, {
          step: turn.step,
          question: position,
          variant,
          outcome,
          givenUp,
        }),
      );
      // Ended meanwhile, or another worker was here first: whoever looks again sees which.
      if (inARow === null) throw new JobPause();
      turn.stored++;
      if (inARow >= MOST_GIVEN_UP && outcome.error)
        throw new JobError(outcome.error.code, outcome.error.message);
    }
  }

  /** What a question that failed leaves: where the fault is its own, or has been met too often. @throws everything else */
  private withoutOutcome(turn: Turn, error: unknown): { outcome: Outcome; givenUp: boolean } {
    if (turn.job.signal.aborted) throw error;
    const fault = faultOf(error);
    const givesUp = fault?.kind === 'passes' && turn.isLastAttempt && !fault.limited;
    if (!fault || (fault.kind !== 'question' && !givesUp)) throw error;
    return { outcome: failedOutcome(fault), givenUp: givesUp };
  }

  /** Goes on later where that may help. @throws JobError, JobPause, JobRetry, or the error itself */
  private async failed(turn: Turn, error: unknown): Promise<never> {
    const { evaluation, job } = turn;
    const fault: Fault | null =
      error instanceof JobError
        ? { kind: 'stays', code: error.code, message: error.message }
        : faultOf(error);
    if (fault?.kind === 'passes') {
      // To be let in later is no failed attempt, and neither is a fault after something was done.
      if (fault.limited || turn.stored > 0) throw new JobPause(fault.delay);
      if (!turn.isLastAttempt) throw new JobRetry(fault.code, fault.message, fault.delay * 2 ** job.attempts);
    }
    if (!fault) {
      this.logger.error(error);
      // The job's attempts are those before anything was done now: they are counted from here.
      if (turn.stored > 0) throw new JobPause(UNKNOWN_FAULT_DELAY);
      if (!turn.isLastAttempt) throw error;
    }
    const { code, message } = fault ?? {
      code: 'internal_error',
      message: 'Something went wrong on our side.',
    };
    await this.database.run(tx => this.outcomes.end(tx, evaluation.id, 'failed', { code, message }));
    throw new JobError(code, message);
  }

  private async questionAt(turn: Turn, position: number): Promise<EvaluationQuestion | undefined> {
    const known = turn.questions.get(position);
    if (known) return known;
    const read = await this.database.run(tx =>
      this.evaluations.questions(tx, turn.evaluation.id, position, QUESTIONS_AT_ONCE),
    );
    turn.questions = new Map(read.map((question, index) => [position + index, question]));
    return turn.questions.get(position);
  }

  /** Somebody has stopped the job itself. */
  private async cancelled({ id, tenantId }: { id: string; tenantId: string | null }): Promise<void> {
    if (tenantId === null) return;
    await this.database.run(async tx => {
      const evaluation = await this.evaluations.idOfJob(tx, id);
      if (evaluation) await this.outcomes.end(tx, evaluation, 'cancelled');
    });
  }
}

/** A while of asking. */
class Turn {
  step: number;
  /** Outcomes of this turn. */
  stored = 0;
  /** Those that were read together, by position. */
  questions = new Map<number, EvaluationQuestion>();
  private readonly end = performance.now() + TURN_MS;
  private reportedAt = 0;

  constructor(
    readonly evaluation: Evaluation,
    readonly job: JobRun<EvaluationPayload>,
  ) {
    this.step = evaluation.resultCount;
  }

  get steps(): number {
    return this.evaluation.questionCount * this.evaluation.variants.length;
  }

  /** Something is done in each turn, however long it takes. */
  get isOver(): boolean {
    return this.stored > 0 && performance.now() > this.end;
  }

  /** Whether a fault at the question that is asked now is its last one. */
  get isLastAttempt(): boolean {
    return this.stored === 0 && this.job.attempts + 1 >= MOST_ATTEMPTS;
  }

  async report(): Promise<void> {
    const now = performance.now();
    if (now - this.reportedAt < REPORT_EVERY_MS) return;
    this.reportedAt = now;
    await this.job.report('ask', this.step / this.steps);
  }
}

const failedOutcome = ({ code, message }: Fault): Outcome => ({
  passages: [],
  ranking: null,
  answer: null,
  latency: 0,
  credits: 0,
  error: { code, message },
});
