import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { UNLIMITED } from '../../foundation/rate-limits/unlimited.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { RequestRates } from './request-rates.service.js';

/**
 * Right behind the authentication, so that what is refused counts, too: a member by themselves, an API token by its own
 * rate, everybody else by address.
 */
@Injectable()
export class RequestRateGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly rates: RequestRates,
  ) {}

  async canActivate(execution: ExecutionContext): Promise<boolean> {
    if (this.reflector.get<boolean | undefined>(UNLIMITED, execution.getClass())) return true;
    const http = execution.switchToHttp();
    const reply = http.getResponse<FastifyReply>();
    const principal = this.context.principalOrNull;
    if (principal) await this.rates.countPrincipal(principal, reply);
    else await this.rates.countAddress(http.getRequest<FastifyRequest>().ip, reply);
    return true;
  }
}
