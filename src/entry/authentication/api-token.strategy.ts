import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { IncomingMessage } from 'node:http';
import passport from 'passport';
import type { ApiTokenPrincipal } from '../../core/tenancy/tenant-context.js';
import { ApiTokenCredentials } from '../../features/api-tokens/api-token-credentials.service.js';
import { apiTokenOf } from './api-token-header.js';

type Verified = (error: unknown, principal?: ApiTokenPrincipal | null) => void;

/** Reads an API token from the request, and lets whoever made this strategy verify it. */
class ApiTokenHeader extends passport.Strategy {
  override readonly name = 'api-token';

  constructor(private readonly verify: (secret: string, done: Verified) => void) {
    super();
  }

  override authenticate(request: IncomingMessage): void {
    const secret = apiTokenOf(request.headers);
    if (secret === null) {
      this.fail(401);
      return;
    }
    this.verify(secret, (error, principal) => {
      if (error) this.error(error);
      else if (principal) this.success(principal);
      else this.fail(401);
    });
  }
}

@Injectable()
export class ApiTokenStrategy extends PassportStrategy(ApiTokenHeader) {
  constructor(private readonly credentials: ApiTokenCredentials) {
    super();
  }

  /** What passport hands on as the user of the request; null refuses. */
  validate(secret: string): Promise<ApiTokenPrincipal | null> {
    return this.credentials.principalOf(secret);
  }
}
