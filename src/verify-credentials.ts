import { createHmac, randomBytes } from 'node:crypto';
import { readDefaultPolicy } from './core/authorization/default-policy.js';
import { TENANT_PERMISSIONS } from './core/authorization/permissions.js';
import { type Account, Caller, type VerifyAnswer } from './verify-api.js';
import { type VerifyContext, type VerifyTest, outcomeOf } from './verify-context.js';
import { askRoute } from './verify-foreign-ids.js';
import type { TestRecord } from './verify-record.js';
import type { ReadingRoute } from './verify-routes.js';

/** Requests a minute: this run is no load that a token is meant for. */
const TOKEN_RATE = 1_000_000;

/** What nobody needs a credential for; what an invitation's token opens, the token itself guards. */
const PUBLIC = new Set([
  'GET /health',
  'GET /health/live',
  'GET /health/ready',
  'GET /version',
  'GET /invitations/{token}',
]);

/** T3: every credential opens exactly what it should. */
export const credentials: VerifyTest = async (context, record) => {
  for (const { key, permission } of context.routes) {
    record.check(permission !== null || PUBLIC.has(key), () => ({
      where: key,
      who: 'nobody',
      expected: 'to be refused',
      got: 'a route that is open to everybody',
    }));
  }
  await refusedOnes(context, record);
  await roles(context, record);
  await scopes(context, record);
  await suspendedTenant(context, record);
};

const guardedRoutes = ({ routes }: VerifyContext) => routes.filter(({ permission }) => permission !== null);
const tenantRoutes = (context: VerifyContext) =>
  guardedRoutes(context).filter(({ domain }) => domain === 'tenant');

/** @param scopes null: all that a tenant has */
export async function issueToken(
  { world }: Pick<VerifyContext, 'world'>,
  tenant: 'a' | 'b',
  creator: Account,
  fields: Record<string, unknown>,
): Promise<{ id: string; secret: string }> {
  const { id, secret } = await creator.caller.must('POST', `/tenants/${world[tenant].id}/api-tokens`, {
    name: `Check ${randomBytes(6).toString('hex')}`,
    scopes: TENANT_PERMISSIONS,
    rate_limit_per_minute: TOKEN_RATE,
    ...fields,
  });
  return { id: id as string, secret: secret as string };
}

/** Credentials that are none (any more), on every route. */
async function refusedOnes(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world, server, admin } = context;
  const { owner, gone, locked, editor } = world.people.b;
  const bearer = (name: string, secret: string) => Caller.bearer(server, name, secret);
  const good = await owner.accessToken();
  // What an admin may, not what an owner may: nobody gives what they do not have.
  const ofAdmins = { scopes: ['tenant:read', 'kb:read', 'document:read', 'query:run'] };
  const revoked = await issueToken(context, 'b', owner, {});
  const ofGone = await issueToken(context, 'b', gone, ofAdmins);
  const ofLocked = await issueToken(context, 'b', locked, ofAdmins);
  const lockedSession = await locked.accessToken();
  const ended = await endedSession(context, editor);
  const before = [
    bearer('a token', revoked.secret),
    bearer('a token', ofGone.secret),
    bearer('a token', ofLocked.secret),
    gone.caller,
    bearer('the session of an account that is to be locked', lockedSession),
  ];
  for (const caller of before) {
    const answer = await caller.get(`/tenants/${world.b.id}`);
    record.check(answer.status === 200, () => ({
      where: 'GET /tenants/{tenant}',
      who: `${caller.name}, before it is taken back`,
      expected: '200',
      got: outcomeOf(answer),
    }));
  }
  await owner.caller.must('DELETE', `/tenants/${world.b.id}/api-tokens/${revoked.id}`);
  await owner.caller.must('DELETE', `/tenants/${world.b.id}/members/${world.userId('former-admin-of-b')}`);
  await admin.must('PATCH', `/users/${world.userId('locked-admin-of-b')}`, { is_active: false });
  const refused = [
    new Caller(server, 'no credential'),
    bearer('a word', 'word'),
    bearer('an unsigned token (alg none)', forged(good, { alg: 'none', typ: 'JWT' }, null)),
    bearer('a token signed with another key', forged(good, { alg: 'HS256', typ: 'JWT' }, randomBytes(32))),
    bearer('a token whose end was cut off', good.slice(0, -4)),
    bearer('a refresh token', await owner.refreshToken()),
    bearer('the token of a session that was ended', ended),
    bearer('the token of an account that is locked', lockedSession),
    bearer('an API token that was revoked', revoked.secret),
    bearer('an API token that never was', `rk_live_${randomBytes(32).toString('base64url')}`),
    bearer('an API token of somebody who has left', ofGone.secret),
    bearer('an API token of an account that is locked', ofLocked.secret),
  ];
  const asked = guardedRoutes(context).flatMap(route => refused.map(caller => ({ route, caller })));
  await record.each(asked, async ({ route, caller }) => {
    const answer = await askRoute(context, caller, route, world.b.ids);
    record.check(answer.status === 401, () => failure(route, caller, '401', answer));
  });
  if (Date.now() > endOf(lockedSession))
    record.leftOut.add(
      'Access tokens live shorter here than this takes: those of sessions that were ended may have been refused because they ' +
        'were too old.',
    );
  // Whoever has left is somebody still, and a stranger here.
  const former = new Caller(server, 'the session of somebody who has left', async () => ({
    authorization: `Bearer ${await gone.accessToken()}`,
  }));
  await record.each(tenantRoutes(context), async route => {
    const answer = await askRoute(context, former, route, world.b.ids);
    record.check(answer.status === 404, () => failure(route, former, '404', answer));
  });
}

const failure = (route: ReadingRoute, caller: Caller, expected: string, answer: VerifyAnswer) => ({
  where: route.key,
  who: caller.name,
  expected,
  got: outcomeOf(answer),
});

/** @param key null: no signature at all */
function forged(token: string, header: object, key: Buffer | null): string {
  const content = `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${token.split('.')[1]}`;
  return `${content}.${key ? createHmac('sha256', key).update(content).digest('base64url') : ''}`;
}

/** Of an access token, in milliseconds since 1970. */
function endOf(token: string): number {
  const claims = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString();
  return (JSON.parse(claims) as { exp: number }).exp * 1000;
}

/** A session of its own, so that the account stays signed in. */
async function endedSession({ server }: VerifyContext, account: Account): Promise<string> {
  const token = await account.signInAgain();
  await Caller.bearer(server, 'the session', token).must('POST', '/auth/logout');
  return token;
}

/** What each role may, as the default roles of this release say it. */
async function roles(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  const { owner, admin, editor, viewer, viewer_readonly: readonly } = world.people.b;
  const members: Array<[role: string, account: Account]> = Object.entries({
    owner,
    admin,
    editor,
    viewer,
    viewer_readonly: readonly,
  });
  const rules = new Set(
    readDefaultPolicy().map(([, role, , object, action]) => `${role} ${object}:${action}`),
  );
  const asked = guardedRoutes(context)
    .filter(({ domain }) => domain !== 'user')
    .flatMap(route => members.map(([role, account]) => ({ route, role, account })));
  let recognised = 0;
  await record.each(asked, async ({ route, role, account: { caller } }) => {
    const may = [route.permission, route.or].some(permission => rules.has(`${role} ${permission}`));
    const answer = await askRoute(context, caller, route, world.b.ids);
    if (!may && answer.status === 403 && isRefusedBy(route, answer)) recognised++;
    record.check(may ? !isRefusedBy(route, answer) : answer.status === 403, () =>
      failure(route, caller, may ? 'to be let in' : '403', answer),
    );
  });
  // Who is let in is told from who is refused by the sentence of the refusal.
  record.check(recognised > 0, () => ({
    where: 'every route',
    who: 'members whose role may not',
    expected: 'refusals whose sentence this command knows',
    got: 'none',
  }));
  const { caller: stranger } = world.people.stranger;
  await record.each(tenantRoutes(context), async route => {
    const answer = await askRoute(context, stranger, route, world.b.ids);
    record.check(answer.status === 404, () => failure(route, stranger, '404', answer));
  });
}

/** Before the route itself: what it shows whom, it decides about more than that. */
const isRefusedBy = ({ permission }: ReadingRoute, { status, body }: VerifyAnswer): boolean =>
  status === 401 ||
  status >= 500 ||
  body['code'] === 'token_not_allowed' ||
  body['detail'] === `This needs the permission ${permission}.`;

/** A token needs its scope, and nothing but it; where tokens may not come, it does not help. */
async function scopes(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world } = context;
  // What is a token's own, it may ask for with any scope.
  const asked = guardedRoutes(context)
    .filter(({ domain, tokens }) => domain === 'tenant' || !tokens)
    .map(route => ({ route, own: [route.permission, route.or] }));
  await record.each(asked, async ({ route, own }) => {
    const others = TENANT_PERMISSIONS.filter(scope => !own.includes(scope));
    const without = await context.tokenOfB(others);
    const denied = await askRoute(context, without, route, world.b.ids);
    record.check(denied.status === 403 || denied.status === 401, () => ({
      ...failure(route, without, '403', denied),
      who: `API token with every scope but ${own.filter(scope => scope !== null).join(' and ')}`,
    }));
    if (route.domain !== 'tenant' || !route.tokens) return;
    const alone = await context.tokenOfB([route.permission as string]);
    const answer = await askRoute(context, alone, route, world.b.ids);
    record.check(!isRefusedBy(route, answer), () => ({
      ...failure(route, alone, 'to be let in', answer),
      who: `API token with the scope ${route.permission} alone`,
    }));
  });
}

async function suspendedTenant(context: VerifyContext, record: TestRecord): Promise<void> {
  const { world, admin } = context;
  const { caller: owner } = world.people.b.owner;
  const token = await context.tokenOfB(null);
  await admin.must('POST', `/tenants/${world.b.id}/suspend`);
  const asked = tenantRoutes(context).flatMap(route =>
    // Where tokens may not come they are refused, whatever the tenant is.
    (route.tokens ? [owner, token] : [owner]).map(caller => ({ route, caller })),
  );
  await record.each(asked, async ({ route, caller }) => {
    const answer = await askRoute(context, caller, route, world.b.ids);
    record.check(answer.status === 403 && answer.body['code'] === 'tenant_suspended', () => ({
      ...failure(route, caller, '403 tenant_suspended', answer),
      who: `${caller.name}, while the tenant is suspended`,
    }));
  });
  await admin.must('POST', `/tenants/${world.b.id}/activate`);
  const answer = await world.people.b.owner.caller.get(`/tenants/${world.b.id}`);
  record.check(answer.status === 200, () => ({
    where: 'GET /tenants/{tenant}',
    who: 'owner of b, once the suspension was lifted',
    expected: '200',
    got: outcomeOf(answer),
  }));
}
