import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import passport from 'passport';
import { ACCESS, type Access } from '../../core/authorization/require-permission.js';
import { RequestRates } from '../../core/quotas/request-rates.service.js';
import { type Principal, TenantContext } from '../../core/tenancy/tenant-context.js';
import { Problem } from '../../foundation/http/problem.js';
import { apiTokenOf } from './api-token-header.js';
import { ApiTokenStrategy } from './api-token.strategy.js';
import { JwtStrategy } from './jwt.strategy.js';

/**
 * Turns the credential of a request into its principal; routes that are not public need one.
 *
 * Nest's own `AuthGuard('jwt')` looks the strategy up by name in a register of the whole process, in which a second
 * application would replace the first one's.
 */
@Injectable()
export class AuthenticationGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly accessTokens: JwtStrategy,
    private readonly apiTokens: ApiTokenStrategy,
    private readonly rates: RequestRates,
  ) {}

  async canActivate(execution: ExecutionContext): Promise<boolean> {
    const access = this.reflector.get<Access | undefined>(ACCESS, execution.getHandler());
    const http = execution.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const reply = http.getResponse<FastifyReply>();
    this.context.setRequest({ id: request.id, ip: request.ip });
    if (access?.kind === 'public') {
      if (access.recognizes) await this.recognize(request, reply);
      return true;
    }
    const isApiToken = apiTokenOf(request.headers) !== null;
    const strategy = isApiToken ? this.apiTokens : this.accessTokens;
    const principal = await this.authenticate(strategy, request, reply);
    if (!principal) {
      await this.rates.countAddress(request.ip, reply);
      throw refusalOf(request);
    }
    this.context.setPrincipal(principal);
    return true;
  }

  /** Somebody who has signed in. To act without that is nothing that an API token is for. */
  private async recognize(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (!request.headers.authorization) return;
    const principal = await this.authenticate(this.accessTokens, request, reply);
    if (principal) this.context.setPrincipal(principal);
  }

  private authenticate(
    shared: JwtStrategy | ApiTokenStrategy,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<Principal | false> {
    return new Promise((resolve, reject) => {
      const settle = (error: unknown, principal?: Principal | false | null) =>
        error ? reject(error) : resolve(principal || false);
      // Passport writes the outcome's handlers into what it is given: shared, one request would get another's principal.
      const strategy = Object.create(shared) as typeof shared;
      passport.authenticate(strategy, { session: false }, settle)(request, reply, reject);
    });
  }
}

const refusalOf = ({ headers }: FastifyRequest): Problem =>
  headers.authorization === undefined && headers['x-api-key'] === undefined
    ? Problem.unauthorized(
        'unauthorized',
        'This route needs a token: Authorization: Bearer <access token or API token>, or X-API-Key: <API token>.',
      )
    : Problem.unauthorized('invalid_token', 'The token is not valid, has expired, or was revoked.');
