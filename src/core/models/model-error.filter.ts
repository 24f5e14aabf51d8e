import { type ArgumentsHost, Catch, type ExceptionFilter, Logger } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { sendProblem } from '../../foundation/http/problem.filter.js';
import { Problem } from '../../foundation/http/problem.js';
import { ModelError } from './model.js';

/** Seconds, where the server does not say it. */
const RETRY_AFTER = 5;

/** A model that fails is somebody else's server: 503 where trying again may help, 502 where it will not. */
export const toModelProblem = ({ code, message, retryable, retryAfter }: ModelError): Problem =>
  retryable
    ? Problem.unavailable(code, message, Math.max(1, Math.ceil(retryAfter ?? RETRY_AFTER)))
    : new Problem(502, code, message);

@Catch(ModelError)
export class ModelErrorFilter implements ExceptionFilter<ModelError> {
  private readonly logger = new Logger('models');

  catch(error: ModelError, host: ArgumentsHost): void {
    this.logger.warn(`${error.code}: ${error.message}`);
    const http = host.switchToHttp();
    sendProblem(toModelProblem(error), http.getRequest<FastifyRequest>(), http.getResponse<FastifyReply>());
  }
}
