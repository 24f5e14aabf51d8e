import { createSecretKey } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { ExtractJwt, Strategy } from 'passport-jwt';
import type { Principal } from '../../core/tenancy/tenant-context.js';
import type { Secrets } from '../../foundation/crypto/secrets.js';
import { SECRETS } from '../../foundation/crypto/crypto.module.js';
import { type AccessTokenClaims, SessionsService } from './sessions.service.js';

export const JWT_ISSUER = 'enclave';
export const JWT_ALGORITHM = 'HS256';
/** What every token begins with that this installation signs: `{"alg":"HS256","typ":"JWT"}`. */
const HEADER = `${Buffer.from(JSON.stringify({ alg: JWT_ALGORITHM, typ: 'JWT' })).toString('base64url')}.`;

const bearerOf = ExtractJwt.fromAuthHeaderAsBearerToken();

@Injectable()
export class JwtStrategy extends PassportStrategy(Strategy) {
  constructor(
    @Inject(SECRETS) secrets: Secrets,
    private readonly sessions: SessionsService,
  ) {
    super({
      // A header that says more (kid, jku, jwk, crit, …) is none of ours, and is not read at all.
      jwtFromRequest: request => {
        const token = bearerOf(request);
        return token?.startsWith(HEADER) ? token : null;
      },
      // Of a string, jsonwebtoken makes a key for every token, and first tries to read it as a public one. passport-jwt
      // hands a finished key on as it is; only its types do not know.
      secretOrKey: createSecretKey(secrets.jwtSecret, 'utf8') as unknown as Buffer,
      // One algorithm and no other: a token must not choose how it is checked (RFC 8725, 3.1).
      algorithms: [JWT_ALGORITHM],
      issuer: JWT_ISSUER,
    });
  }

  /** What passport hands on as the user of the request; false refuses. */
  async validate(claims: AccessTokenClaims & { aud?: unknown }): Promise<Principal | false> {
    // We name no audience: a token that does is for somebody else (RFC 7519, 4.1.3). One without an end is nobody's.
    if (claims.aud !== undefined || typeof claims.exp !== 'number') return false;
    if (typeof (claims.tid ?? '') !== 'string') return false;
    const state = await this.sessions.validState(claims.sid, claims.sub);
    if (!state) return false;
    return {
      kind: 'user',
      userId: claims.sub,
      email: state.email,
      sessionId: claims.sid,
      tokenTenantId: claims.tid ?? null,
    };
  }
}
