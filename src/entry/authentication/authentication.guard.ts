import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import passport from 'passport';
import { ACCESS, type Access } from '../../core/authorization/require-permission.js';
import { type Principal, TenantContext } from '../../core/tenancy/tenant-context.js';
import { Problem } from '../../foundation/http/problem.js';
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
    private readonly strategy: JwtStrategy,
  ) {}

  async canActivate(execution: ExecutionContext): Promise<boolean> {
    const access = this.reflector.get<Access | undefined>(ACCESS, execution.getHandler());
    const http = execution.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    this.context.setRequest({ id: request.id, ip: request.ip });
    if (access?.kind === 'public' && !(access.recognizes && request.headers.authorization)) return true;
    const principal = await this.authenticate(request, http.getResponse<FastifyReply>());
    if (!principal) {
      if (access?.kind === 'public') return true;
      throw request.headers.authorization !== undefined
        ? Problem.unauthorized('invalid_token', 'The access token is not valid, has expired, or was revoked.')
        : Problem.unauthorized(
            'unauthorized',
            'This route needs an access token: Authorization: Bearer <token>.',
          );
    }
    this.context.setPrincipal(principal);
    return true;
  }

  private authenticate(request: FastifyRequest, reply: FastifyReply): Promise<Principal | false> {
    return new Promise((resolve, reject) => {
      const settle = (error: unknown, principal?: Principal | false | null) =>
        error ? reject(error) : resolve(principal || false);
      // Passport writes the outcome's handlers into what it is given: shared, one request would get another's principal.
      const strategy = Object.create(this.strategy) as JwtStrategy;
      passport.authenticate(strategy, { session: false }, settle)(request, reply, reject);
    });
  }
}
