import { Injectable } from '@nestjs/common';
import { ClsService } from 'nestjs-cls';

/** Who acts. A credential becomes one of these at the door; nobody behind it sees the credential again. */
export type Principal =
  | { kind: 'user'; userId: string; email: string; sessionId: string; tokenTenantId: string | null }
  | ApiTokenPrincipal
  | { kind: 'system' };

/** Whoever holds an API token: acts in one tenant, with a part of what its creator may do there. */
export interface ApiTokenPrincipal {
  kind: 'api_token';
  tokenId: string;
  name: string;
  /** Who made the token, and stands behind what it does. */
  userId: string;
  tenantId: string;
  /** `publishable` ones may stand in web pages. */
  tokenKind: 'live' | 'test' | 'publishable';
  /** Permissions of the tenant's domain. */
  scopes: ReadonlySet<string>;
  /** The only knowledge bases that it opens; null: all that its creator sees. */
  kbIds: readonly string[] | null;
  agentIds: readonly string[] | null;
  rateLimitPerMinute: number;
  /** Micro-credits a calendar month; null: no limit. */
  monthlyCreditBudget: number | null;
}

/** Whose rights are asked for: a user's (or a role's, by its name), or what an API token has of its creator's. */
export type Subject = string | ApiTokenPrincipal;

/** The tenant that a request or a job works in. */
export interface CurrentTenant {
  id: string;
  name: string;
}

/** How far the principal sees in the tenant; the database holds it to that. */
export interface TenantAccess {
  /** Owners, admins, the platform's people and the system see every knowledge base and document. */
  all: boolean;
  /** Ids of the groups that the principal is in. */
  groups: readonly string[];
  /** Whether the principal belongs to the tenant; somebody of the platform may act in it without. */
  member: boolean;
  /** The only knowledge bases that an API token opens; null: no such limit. */
  kbIds?: readonly string[] | null;
  /** The only agents that an API token may ask; null: no such limit. */
  agentIds?: readonly string[] | null;
}

/** Who is written down as having done something. */
export interface Actor {
  type: 'user' | 'api_token' | 'platform_admin' | 'system' | 'anonymous';
  id: string | null;
  /** As it was at the time: an e-mail address, a token's name. */
  name: string | null;
  ip: string | null;
  requestId: string | null;
}

const NO_ACCESS: TenantAccess = { all: false, groups: [], member: false };
const ACCESS_OF_SYSTEM: TenantAccess = { all: true, groups: [], member: false };

/** Nothing has said yet whose request or job this is. */
export class ContextMissingError extends Error {
  override readonly name = 'ContextMissingError';
}

const PRINCIPAL = 'principal';
const TENANT = 'tenant';
const ACCESS = 'access';
const ACTOR = 'actor';
const REQUEST = 'request';
const PLATFORM = 'platform';

/**
 * Who acts, and in which tenant: for the length of one request or one job, through AsyncLocalStorage. Reading what
 * was not set throws, so that code without a context fails instead of seeing everybody's data.
 */
@Injectable()
export class TenantContext {
  constructor(private readonly cls: ClsService) {}

  get principal(): Principal {
    const principal = this.cls.get<Principal | undefined>(PRINCIPAL);
    if (!principal) throw new ContextMissingError('No principal is set for this request or job.');
    return principal;
  }

  get tenant(): CurrentTenant {
    const tenant = this.cls.get<CurrentTenant | undefined>(TENANT);
    if (!tenant) throw new ContextMissingError('No tenant is set for this request or job.');
    return tenant;
  }

  /** Null outside of a request or job, and on routes that belong to no tenant: for logs and problem documents. */
  get tenantOrNull(): CurrentTenant | null {
    return this.cls.isActive() ? (this.cls.get<CurrentTenant | undefined>(TENANT) ?? null) : null;
  }

  get principalOrNull(): Principal | null {
    return this.cls.isActive() ? (this.cls.get<Principal | undefined>(PRINCIPAL) ?? null) : null;
  }

  /** The acting user, or who made the acting token: for `created_by`. @throws ContextMissingError where the system acts. */
  get userId(): string {
    const principal = this.principal;
    if (principal.kind === 'system') throw new ContextMissingError('No user acts here.');
    return principal.userId;
  }

  /** Whose rights count: what to ask the authorization with. @throws ContextMissingError where the system acts. */
  get subject(): Subject {
    const principal = this.principal;
    if (principal.kind === 'system') throw new ContextMissingError('No user acts here.');
    return principal.kind === 'user' ? principal.userId : principal;
  }

  /**
   * Whose own account, memberships and grants these are to give up or to see; null where a token or the system acts,
   * to whom they are somebody else's.
   */
  get ownAccount(): string | null {
    const principal = this.principal;
    return principal.kind === 'user' ? principal.userId : null;
  }

  /** What the principal sees of the tenant. Nothing but what is open, until somebody has said more. */
  get access(): TenantAccess {
    return this.cls.get<TenantAccess | undefined>(ACCESS) ?? NO_ACCESS;
  }

  /** Who does what is being done, for the audit. */
  get actor(): Actor {
    if (!this.cls.isActive()) return { type: 'system', id: null, name: null, ip: null, requestId: null };
    const acting = this.cls.get<Actor | undefined>(ACTOR);
    if (acting) return acting;
    const request = this.cls.get<{ id: string; ip: string } | undefined>(REQUEST);
    const where = { ip: request?.ip ?? null, requestId: request?.id ?? null };
    const principal = this.principalOrNull;
    if (!principal) return { type: 'anonymous', id: null, name: null, ...where };
    if (principal.kind === 'system') return { type: 'system', id: null, name: null, ...where };
    if (principal.kind === 'api_token')
      return { type: 'api_token', id: principal.tokenId, name: principal.name, ...where };
    const forPlatform = this.tenantOrNull ? !this.access.member : this.cls.get<boolean | undefined>(PLATFORM);
    return {
      type: forPlatform ? 'platform_admin' : 'user',
      id: principal.userId,
      name: principal.email,
      ...where,
    };
  }

  setPrincipal(principal: Principal): void {
    this.cls.set(PRINCIPAL, principal);
  }

  setTenant(tenant: CurrentTenant, access: TenantAccess): void {
    this.cls.set(TENANT, tenant);
    this.cls.set(ACCESS, access);
  }

  /** Says that what is being done needs a permission of the platform. */
  setForPlatform(): void {
    this.cls.set(PLATFORM, true);
  }

  /**
   * Runs `work` in another tenant than the request's, as the same principal.
   *
   * @param access what the principal sees of that tenant
   */
  runIn<T>(tenant: CurrentTenant, access: TenantAccess, work: () => Promise<T>): Promise<T> {
    return this.cls.run({ ifNested: 'inherit' }, () => {
      this.setTenant(tenant, access);
      return work();
    });
  }

  /**
   * Runs `work` as somebody in a tenant, apart from any request of theirs: the way in for jobs that may do no more than whoever
   * asked for them. Who is written down stays as it was.
   */
  runAs<T>(
    principal: Principal,
    tenant: CurrentTenant,
    access: TenantAccess,
    work: () => Promise<T>,
  ): Promise<T> {
    return this.cls.run({ ifNested: 'inherit' }, () => {
      this.setPrincipal(principal);
      this.setTenant(tenant, access);
      return work();
    });
  }

  setRequest(request: { id: string; ip: string }): void {
    this.cls.set(REQUEST, request);
  }

  /**
   * Runs `work` as the system in one tenant: the way in for jobs.
   *
   * @param actor on whose behalf, where somebody asked for it
   */
  runAsSystem<T>(tenant: CurrentTenant | null, work: () => Promise<T>, actor?: Actor): Promise<T> {
    return this.cls.run(() => {
      this.setPrincipal({ kind: 'system' });
      if (tenant) this.setTenant(tenant, ACCESS_OF_SYSTEM);
      if (actor) this.cls.set(ACTOR, actor);
      return work();
    });
  }
}
