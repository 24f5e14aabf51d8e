import { type ArgumentsHost, Catch, type ExceptionFilter, Logger } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { sendProblem } from '../../foundation/http/problem.filter.js';
import { Problem } from '../../foundation/http/problem.js';
import { ModelError } from './model.js';

/** A model that fails is somebody else's server: 503 where trying again may help, 502 where it will not. */
@Catch(ModelError)
export class ModelErrorFilter implements ExceptionFilter<ModelError> {
  private readonly logger = new Logger('models');

  catch(error: ModelError, host: ArgumentsHost): void {
    this.logger.warn(`${error.code}: ${error.message}`);
    const http = host.switchToHttp();
    const problem = error.retryable
      ? Problem.unavailable(error.code, error.message)
      : new Problem(502, error.code, error.message);
    sendProblem(problem, http.getRequest<FastifyRequest>(), http.getResponse<FastifyReply>());
  }
}
