import type { Logger } from '@nestjs/common';
import { toModelProblem } from '../../core/models/model-error.filter.js';
import { ModelError } from '../../core/models/model.js';
import { toProblem } from '../../foundation/http/problem.filter.js';
import type { AnswerFailure } from './answer-events.js';

/** Why an answer ended before its end, for whoever listens to it; the log is told what they are not. */
export function answerFailure(error: unknown, logger: Logger): AnswerFailure {
  if (error instanceof ModelError) logger.warn(`${error.code}: ${error.message}`);
  const { status, code, detail } =
    error instanceof ModelError ? toModelProblem(error) : toProblem(error, logger);
  return { status, code, detail };
}
