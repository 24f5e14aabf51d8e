import { type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { AuthGuard } from '@nestjs/passport';
import type { FastifyRequest } from 'fastify';
import { ACCESS, type Access } from '../../core/authorization/require-permission.js';
import { type Principal, TenantContext } from '../../core/tenancy/tenant-context.js';
import { Problem } from '../../foundation/http/problem.js';

/** Turns the credential of a request into its principal; routes that are not public need one. */
@Injectable()
export class AuthenticationGuard extends AuthGuard('jwt') {
  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
  ) {
    super();
  }

  override async canActivate(execution: ExecutionContext): Promise<boolean> {
    const access = this.reflector.get<Access | undefined>(ACCESS, execution.getHandler());
    if (access?.kind === 'public') return true;
    return (await super.canActivate(execution)) as boolean;
  }

  override handleRequest<User = Principal>(
    error: unknown,
    principal: User | false,
    _info: unknown,
    execution: ExecutionContext,
  ): User {
    if (error) throw error;
    if (!principal) {
      const sent = execution.switchToHttp().getRequest<FastifyRequest>().headers.authorization !== undefined;
      throw sent
        ? Problem.unauthorized('invalid_token', 'The access token is not valid, has expired, or was revoked.')
        : Problem.unauthorized(
            'unauthorized',
            'This route needs an access token: Authorization: Bearer <token>.',
          );
    }
    this.context.setPrincipal(principal as unknown as Principal);
    return principal;
  }
}
