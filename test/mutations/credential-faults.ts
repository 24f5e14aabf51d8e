import type { Fault } from './fault.js';

const CREDENTIALS = 'test/isolation/credentials.spec.ts';
const SIGNED_IN = 'test/e2e/authentication.spec.ts';
/** Quick ones, which try everything on one route. */
const FORGED = 'test/attacks/identity.spec.ts#a JWT';
const ENDED = 'test/e2e/api-tokens.spec.ts#that is not good any more';
const JWT = 'src/entry/authentication/jwt.strategy.ts';
const SESSIONS = 'src/entry/authentication/sessions.repository.ts';
const TOKENS = 'src/features/api-tokens/api-token-credentials.service.ts';
const STORED_TOKENS = 'src/features/api-tokens/api-token-credentials.repository.ts';
const PASSWORD_TOKENS = 'src/features/users/password-tokens.repository.ts';

/** What a credential has to be to open anything. */
export const CREDENTIAL_FAULTS: readonly Fault[] = [
  {
    name: 'jwt-signature-not-checked',
    breaks: 'Whoever writes an access token is whoever it says.',
    edits: [
      {
        file: JWT,
        find: '  /** What passport hands on as the user of the request; false refuses. */',
        replace: `  override authenticate(request: never): void {
    const token = ExtractJwt.fromAuthHeaderAsBearerToken()(request);
    const claims = /^.*\\.(.*)\\./.exec(token ?? '')?.[1];
    if (!claims) return this.fail(401);
    void this.validate(JSON.parse(Buffer.from(claims, 'base64url').toString())).then(found =>
      found ? this.success(found) : this.fail(401),
    );
  }

  /** What passport hands on as the user of the request; false refuses. */`,
      },
    ],
    specs: [FORGED, `${CREDENTIALS}#is signed with another key`],
  },
  {
    name: 'jwt-never-expires',
    breaks: 'An access token is good as long as its session.',
    edits: [
      {
        file: JWT,
        find: '      issuer: JWT_ISSUER,\n',
        replace: '      issuer: JWT_ISSUER,\n      ignoreExpiration: true,\n',
      },
    ],
    specs: [FORGED, `${CREDENTIALS}#that has expired`],
  },
  {
    name: 'jwt-chooses-its-algorithm',
    breaks: 'A token says how it is checked.',
    edits: [
      {
        file: JWT,
        find: 'return token?.startsWith(HEADER) ? token : null;',
        replace: 'return token ?? null;',
      },
      {
        file: JWT,
        find: '      algorithms: [JWT_ALGORITHM],\n',
        replace: "      algorithms: [JWT_ALGORITHM, 'HS384', 'HS512'],\n",
      },
    ],
    specs: [FORGED, `${CREDENTIALS}#by another algorithm`],
  },
  {
    name: 'jwt-of-anybody',
    breaks: 'What another application has signed with the same secret signs in here.',
    edits: [{ file: JWT, find: '      issuer: JWT_ISSUER,\n', replace: '' }],
    specs: [FORGED, `${CREDENTIALS}#of another issuer`],
  },
  {
    name: 'ended-session-goes-on',
    breaks: 'An access token is good after its session was ended.',
    edits: [
      {
        file: SESSIONS,
        find: 's.revoked_at IS NULL AND s.expires_at > now()',
        replace: 's.expires_at > now()',
      },
    ],
    specs: [`${SIGNED_IN}#a session`, `${CREDENTIALS}#was revoked from another one`],
  },
  {
    name: 'session-not-forgotten',
    breaks: 'A logout counts once the memory of a process has run out.',
    edits: [
      {
        file: 'src/entry/authentication/sessions.service.ts',
        find: '    if (sessionId) this.states.delete(sessionId);\n',
        replace: '    if (sessionId) return;\n',
      },
    ],
    specs: [`${SIGNED_IN}#a session`],
  },
  {
    name: 'deactivated-user-goes-on',
    breaks: 'Whoever may not sign in any more goes on with the access token that they have.',
    edits: [
      {
        file: SESSIONS,
        find: 's.expires_at > now() AND u.is_active AS valid',
        replace: 's.expires_at > now() AS valid',
      },
    ],
    specs: [`${SIGNED_IN}#deactivated`, `${CREDENTIALS}#whose account was closed`],
  },
  {
    name: 'refresh-token-good-twice',
    breaks: 'A refresh token that was stolen is exchanged beside its owner’s.',
    edits: [
      {
        file: SESSIONS,
        find: '{ id, refreshTokenHash: oldHash, revokedAt: IsNull() },',
        replace: '{ id, revokedAt: IsNull() },',
      },
    ],
    specs: [`${SIGNED_IN}#refresh`],
  },
  {
    name: 'revoked-token-remembered',
    breaks: 'An API token opens for a while after it was revoked.',
    edits: [
      {
        file: TOKENS,
        find: '      id => this.forget(({ secret }) => secret.tokenId === id),\n',
        replace: '      id => this.forget(({ secret }) => secret.hash === (id as never)),\n',
      },
    ],
    specs: [ENDED, `${CREDENTIALS}#a revoked token`],
  },
  {
    name: 'stopped-token-accepted',
    breaks: 'An API token opens although it was switched off.',
    edits: [
      {
        file: STORED_TOKENS,
        find: 'WHERE s.prefix = $1 AND t.is_active AND u.is_active',
        replace: 'WHERE s.prefix = $1 AND u.is_active',
      },
    ],
    specs: [ENDED, `${CREDENTIALS}#switched off`],
  },
  {
    name: 'token-of-a-deactivated-user',
    breaks: 'The API tokens of whoever may not sign in any more go on.',
    edits: [
      {
        file: STORED_TOKENS,
        find: 'WHERE s.prefix = $1 AND t.is_active AND u.is_active',
        replace: 'WHERE s.prefix = $1 AND t.is_active',
      },
    ],
    specs: [ENDED, `${CREDENTIALS}#their API token`],
  },
  {
    name: 'token-of-a-former-member',
    breaks: 'The API tokens of whoever has left the tenant go on.',
    edits: [
      {
        file: TOKENS,
        find: '    return member ? principal : null;',
        replace: '    return member ? principal : principal;',
      },
    ],
    specs: [ENDED, `${CREDENTIALS}#who has left`],
  },
  {
    name: 'beginning-of-a-token-is-enough',
    breaks: 'Whoever reads the first characters of a token in a log has it.',
    edits: [{ file: TOKENS, find: '!secretMatches(secret, found.secret.hash) || ', replace: '' }],
    specs: [ENDED, `${CREDENTIALS}#another secret`],
  },
  {
    name: 'token-never-expires',
    breaks: 'An API token opens after the day that it was made until.',
    edits: [{ file: TOKENS, find: ' || isExpired(found.secret)) return null;', replace: ') return null;' }],
    specs: [ENDED, `${CREDENTIALS}#a token that has expired`],
  },
  {
    name: 'password-token-good-twice',
    breaks: 'The token of an e-mail chooses a password again.',
    edits: [
      {
        file: PASSWORD_TOKENS,
        find: "      'DELETE FROM password_tokens WHERE token_hash = $1 AND expires_at > now()',",
        replace:
          "      'UPDATE password_tokens SET expires_at = expires_at WHERE token_hash = $1 AND expires_at > now()',",
      },
      {
        file: PASSWORD_TOKENS,
        find: "    await tx.query('DELETE FROM password_tokens WHERE user_id = $1', [userId]);",
        replace: '    await tx.query(`SELECT $1::uuid`, [userId]);',
      },
    ],
    specs: ['test/e2e/password.spec.ts#a forgotten password'],
  },
  {
    name: 'password-token-never-expires',
    breaks: 'An old e-mail chooses a password.',
    edits: [
      {
        file: PASSWORD_TOKENS,
        find: 't.token_hash = $1 AND t.expires_at > now() AND',
        replace: 't.token_hash = $1 AND',
      },
      {
        file: PASSWORD_TOKENS,
        find: "token_hash = $1 AND expires_at > now()',",
        replace: "token_hash = $1',",
      },
    ],
    specs: ['test/e2e/password.spec.ts#a forgotten password'],
  },
  {
    name: 'invitation-takes-over-accounts',
    breaks:
      'Whoever has made an account in advance with somebody’s address gets what that one is invited to.',
    edits: [
      {
        file: 'src/features/members/invitation-answers.service.ts',
        find: 'if (account.hasPassword && !account.emailVerified && !isOwn) {',
        replace: 'if (!account.hasPassword && !account.emailVerified && isOwn) {',
      },
    ],
    specs: ['test/e2e/invitations.spec.ts'],
  },
];
