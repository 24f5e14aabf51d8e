import { Injectable, type OnModuleInit } from '@nestjs/common';
import { type Enforcer, newEnforcer, newModelFromString } from 'casbin';
import { LRUCache } from 'lru-cache';
import { readFileSync } from 'node:fs';
import { validate as isUuid } from 'uuid';
import type { Env } from '../../foundation/config/env.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import type { ApiTokenPrincipal, Subject, TenantAccess } from '../tenancy/tenant-context.js';
import { CasbinRulesRepository } from './casbin-rules.repository.js';
import { casbinFile } from './default-policy.js';
import { type MemberFacts, MemberFactsRepository } from './member-facts.repository.js';
import {
  BEYOND_SINGLE_KBS,
  PERMISSIONS,
  PLATFORM_DOMAIN,
  type Permission,
  isKbPermission,
  tenantDomain,
  tenantOfDomain,
  userDomain,
} from './permissions.js';

/** Of the change feed: what somebody may do in a domain changed. */
export const POLICY_TOPIC = 'policy';
/** Role links are rebuilt with every user added; beyond this many a domain starts a new enforcer. */
const USERS_PER_ENFORCER = 200;

/** Where every user may make tenants. */
const SELF_SERVICE = ['self', 'user_*', 'user', 'create_tenant'] as const;

/** What is remembered of one domain until its policy changes: an enforcer with the users asked for, and its decisions. */
interface DomainPolicy {
  enforcer: Enforcer;
  /** By user, or by role where a role was asked for as a subject. */
  users: Map<string, KnownUser>;
  /** Loading users one after the other: the enforcer has one adapter at a time. */
  loading: Promise<void>;
}

interface KnownUser {
  decisions: Map<Permission, boolean>;
  /** Null where the domain is no tenant's, or the user not a member of it. */
  facts: MemberFacts | null;
  access: TenantAccess | null;
}

/**
 * Casbin, one enforcer a domain. Rules are loaded when a domain and a user are first asked for, decisions are
 * remembered, and both are forgotten in every process when a policy of the domain changes: a decision made before
 * costs two map look-ups.
 */
@Injectable()
export class AuthorizationService implements OnModuleInit {
  private readonly modelText = readFileSync(casbinFile('model.conf'), 'utf8');
  private readonly domains: LRUCache<string, Promise<DomainPolicy>>;
  private readonly loaded: LRUCache<string, DomainPolicy>;

  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly database: PlatformDatabase,
    private readonly rules: CasbinRulesRepository,
    private readonly memberFacts: MemberFactsRepository,
    private readonly changes: ChangeFeed,
  ) {
    this.loaded = new LRUCache({ max: env.authorizationCacheSize });
    this.domains = new LRUCache({ max: env.authorizationCacheSize });
  }

  onModuleInit(): void {
    this.changes.subscribe(
      POLICY_TOPIC,
      domain => this.forget(domain),
      () => this.forgetAll(),
    );
  }

  /**
   * Whether `subject` may do `permission` in `domain`. Synchronous once the answer is known. A token may do, in its own
   * tenant, what is among its scopes and its creator may still do.
   */
  can(subject: Subject, domain: string, permission: Permission): boolean | Promise<boolean> {
    if (!mayAsk(subject, domain, permission)) return false;
    const userId = userIdOf(subject);
    const known = this.loaded.get(domain)?.users.get(userId)?.decisions.get(permission);
    return known ?? this.decide(userId, domain, permission);
  }

  /**
   * The same for one knowledge base of a tenant. A grant widens what the tenant's roles allow in an open knowledge base,
   * and replaces it in a closed one; those who see everything need none.
   *
   * @param kb id or slug
   */
  async canInKb(subject: Subject, tenantId: string, kb: string, permission: Permission): Promise<boolean> {
    const domain = tenantDomain(tenantId);
    if (!mayAsk(subject, domain, permission)) return false;
    const userId = userIdOf(subject);
    const inTenant = await this.can(userId, domain, permission);
    const facts = await this.factsOf(userId, tenantId);
    // An id is the same in capitals, and must not lead past the grants on it.
    const reference = kb.toLowerCase();
    const grants = (facts?.grants ?? []).filter(
      grant => grant.kbId === reference || grant.slug === reference,
    );
    if (grants.length === 0 || facts?.status !== 'active') return inTenant;
    if (inTenant && (grants[0]?.visibility === 'tenant' || (await this.accessOf(userId, tenantId)).all))
      return true;
    const granted = await Promise.all(grants.map(async ({ role }) => this.can(role, domain, permission)));
    return granted.includes(true);
  }

  /**
   * Whether a route of a tenant that needs `permission` lets `subject` in. Grants count for their own knowledge base;
   * where a route names none, its service keeps to those that are granted.
   *
   * @param kb id or slug of the one that the route names
   * @param anyKb whether it is enough, where none is named, to have the permission in one
   * @param or another permission that lets in, too
   */
  async letsIn(
    subject: Subject,
    tenantId: string,
    permission: Permission,
    kb: string | undefined,
    anyKb = false,
    or: Permission | null = null,
  ): Promise<boolean> {
    if (or && (await this.letsIn(subject, tenantId, or, kb, anyKb))) return true;
    if (kb && isKbPermission(permission)) return this.canInKb(subject, tenantId, kb, permission);
    if (await this.can(subject, tenantDomain(tenantId), permission)) return true;
    if (permission !== 'kb:read' && !anyKb) return false;
    return (await this.kbsGranted(subject, tenantId, permission)).length > 0;
  }

  /** Ids of the knowledge bases in which a grant gives `subject` this permission. */
  async kbsGranted(subject: Subject, tenantId: string, permission: Permission): Promise<string[]> {
    if (!mayAsk(subject, tenantDomain(tenantId), permission)) return [];
    const userId = userIdOf(subject);
    const facts = await this.factsOf(userId, tenantId);
    if (facts?.status !== 'active' || !isKbPermission(permission)) return [];
    const allowed = await Promise.all(
      facts.grants.map(async ({ role }) => this.can(role, tenantDomain(tenantId), permission)),
    );
    return [...new Set(facts.grants.filter((_, index) => allowed[index]).map(({ kbId }) => kbId))];
  }

  /** How far `subject` sees in a tenant, and whether they belong to it. A token belongs to its own while its creator sees it. */
  async accessOf(subject: Subject, tenantId: string): Promise<TenantAccess> {
    if (typeof subject !== 'string') return this.accessOfToken(subject, tenantId);
    const userId = subject;
    const domain = tenantDomain(tenantId);
    const known = this.loaded.get(domain)?.users.get(userId);
    if (known?.access) return known.access;
    const user = (await this.policyFor(domain, userId)).users.get(userId) as KnownUser;
    const member = user.facts?.status === 'active';
    user.access = {
      member,
      groups: user.facts?.groups ?? [],
      all: member
        ? await this.can(userId, domain, 'tenant:manage')
        : await this.can(userId, PLATFORM_DOMAIN, 'platform:read'),
    };
    return user.access;
  }

  private async accessOfToken(token: ApiTokenPrincipal, tenantId: string): Promise<TenantAccess> {
    if (token.tenantId !== tenantId) return { all: false, groups: [], member: false };
    const { all, groups, member } = await this.accessOf(token.userId, tenantId);
    return { all, groups, member: member || all, kbIds: token.kbIds, agentIds: token.agentIds };
  }

  /** Groups and grants of a member, and whether they are suspended; null for everybody else. */
  async factsOf(userId: string, tenantId: string): Promise<MemberFacts | null> {
    const domain = tenantDomain(tenantId);
    const policy = this.loaded.get(domain) ?? (await this.policyFor(domain, userId));
    const known = policy.users.get(userId) ?? (await this.policyFor(domain, userId)).users.get(userId);
    return known?.facts ?? null;
  }

  /** Every permission that `subject` has in `domain`. */
  async permissionsOf(subject: Subject, domain: string): Promise<Permission[]> {
    const permissions = Object.keys(PERMISSIONS) as Permission[];
    const allowed = await Promise.all(
      permissions.map(async permission => this.can(subject, domain, permission)),
    );
    return permissions.filter((_, index) => allowed[index]);
  }

  /**
   * Those of them that `subject` may give others in the whole of `domain`. A token that is kept to some knowledge bases
   * holds what it may do in them there alone.
   */
  async givableBy(subject: Subject, domain: string): Promise<Permission[]> {
    const held = await this.permissionsOf(subject, domain);
    const kept = typeof subject !== 'string' && subject.kbIds !== null;
    return kept ? held.filter(permission => !isKbPermission(permission)) : held;
  }

  /** The roles that count for `userId` in a tenant, as decisions are made from them: those given there and by the platform. */
  async rolesOf(userId: string, tenantId: string): Promise<{ tenant: string[]; platform: string[] }> {
    const domain = tenantDomain(tenantId);
    const { enforcer } = await this.policyFor(domain, userId);
    const rules = await enforcer.getFilteredGroupingPolicy(0, userId);
    const given = (where: string) => rules.filter(rule => rule[2] === where).map(rule => rule[1] as string);
    return { tenant: given(domain), platform: given(PLATFORM_DOMAIN) };
  }

  /** The roles that `userId` has in `domain`, as the transaction sees them. */
  storedRolesOf(tx: Tx, userId: string, domain: string): Promise<string[]> {
    return this.rules.rolesOf(tx, userId, domain);
  }

  /** Gives a role, with the transaction; every process knows within a second of its commit. */
  async assignRole(tx: Tx, userId: string, role: string, domain: string): Promise<void> {
    await this.rules.addRole(tx, userId, role, domain);
    await this.policyChanged(tx, domain);
  }

  async removeRole(tx: Tx, userId: string, role: string, domain: string): Promise<void> {
    await this.rules.removeRole(tx, userId, role, domain);
    await this.policyChanged(tx, domain);
  }

  /** Gives roles to many users at once. */
  async assignRoles(
    tx: Tx,
    assignments: ReadonlyArray<{ userId: string; role: string }>,
    domain: string,
  ): Promise<void> {
    await this.rules.addRoles(tx, assignments, domain);
    await this.policyChanged(tx, domain);
  }

  /** Says what a tenant's own role may do. */
  async defineRole(tx: Tx, role: string, domain: string, permissions: readonly Permission[]): Promise<void> {
    const rules = permissions.map(permission => permission.split(':') as [string, string]);
    await this.rules.setPermissions(tx, role, domain, rules);
    await this.policyChanged(tx, domain);
  }

  /** The same where perhaps nobody holds it yet: of several callers at once, one goes first. */
  async lockFirstHolder(tx: Tx, role: string, domain: string): Promise<string[]> {
    await this.rules.lockRole(tx, role, domain);
    return this.lockHolders(tx, role, domain);
  }

  /** Who holds `role` in `domain`; nobody else can change that until the transaction ends. */
  lockHolders(tx: Tx, role: string, domain: string): Promise<string[]> {
    return this.rules.lockHolders(tx, role, domain);
  }

  /**
   * Whether `subject` holds everything that `role` gives in `domain`: nobody gives, or takes from others, what they
   * do not hold.
   */
  async outranks(subject: Subject, role: string, domain: string): Promise<boolean> {
    // Asked as a subject of its own, a role has exactly its own permissions.
    const [held, given] = await Promise.all([
      this.givableBy(subject, domain),
      this.permissionsOf(role, domain),
    ]);
    return given.every(permission => held.includes(permission));
  }

  /**
   * The same for what `role` would give in one knowledge base alone, compared with what `subject` may do there.
   *
   * @param kb id or slug
   */
  async outranksInKb(subject: Subject, role: string, tenantId: string, kb: string): Promise<boolean> {
    const given = (await this.permissionsOf(role, tenantDomain(tenantId))).filter(isKbPermission);
    const held = await Promise.all(
      given.map(async permission => this.canInKb(subject, tenantId, kb, permission)),
    );
    return !held.includes(false);
  }

  /** Announces that rules of `domain` changed in this transaction. */
  async policyChanged(tx: Tx, domain: string): Promise<void> {
    await this.changes.publish(tx, POLICY_TOPIC, domain);
  }

  private async decide(userId: string, domain: string, permission: Permission): Promise<boolean> {
    const policy = await this.policyFor(domain, userId);
    const { decisions } = policy.users.get(userId) as KnownUser;
    const known = decisions.get(permission);
    if (known !== undefined) return known;
    const [object, action] = permission.split(':');
    const allowed = policy.enforcer.enforceSync(userId, domain, object, action);
    decisions.set(permission, allowed);
    return allowed;
  }

  private async policyFor(domain: string, userId: string): Promise<DomainPolicy> {
    let pending = this.domains.get(domain);
    const known = this.loaded.peek(domain);
    if (!pending || (known && known.users.size >= USERS_PER_ENFORCER && !known.users.has(userId))) {
      pending = this.build();
      this.domains.set(domain, pending);
      this.loaded.delete(domain);
      pending.catch(() => this.domains.delete(domain));
    }
    const policy = await pending;
    if (!policy.users.has(userId)) {
      policy.loading = policy.loading.catch(() => undefined).then(() => this.addUser(policy, domain, userId));
      await policy.loading;
    }
    // A change that came in meanwhile has replaced this policy: what it says is then used once and not remembered.
    if (this.domains.peek(domain) === pending) this.loaded.set(domain, policy);
    return policy;
  }

  private async build(): Promise<DomainPolicy> {
    const enforcer = await newEnforcer(newModelFromString(this.modelText));
    // A rule that is added here stays here: its adapter belongs to a transaction that has ended by then.
    enforcer.enableAutoSave(false);
    return { enforcer, users: new Map(), loading: Promise.resolve() };
  }

  private async addUser(policy: DomainPolicy, domain: string, userId: string): Promise<void> {
    if (policy.users.has(userId)) return;
    const first = policy.users.size === 0;
    const tenantId = tenantOfDomain(domain);
    const facts = await this.database.run(async tx => {
      const found = tenantId && isUuid(userId) ? await this.memberFacts.find(tx, tenantId, userId) : null;
      // A suspended member keeps the roles, but they do not count.
      const assignedIn = found?.status === 'suspended' ? [PLATFORM_DOMAIN] : [domain, PLATFORM_DOMAIN];
      policy.enforcer.setAdapter(await this.rules.adapter(tx));
      await policy.enforcer.loadIncrementalFilteredPolicy(
        this.rules.filterFor(domain, assignedIn, userId, first),
      );
      return found;
    });
    if (domain === userDomain(userId)) {
      await policy.enforcer.getRoleManager().addLink(userId, 'self', domain);
      if (this.env.selfService.enabled) await policy.enforcer.addPolicy(...SELF_SERVICE);
    }
    policy.users.set(userId, { decisions: new Map(), facts, access: null });
  }

  private forget(domain: string): void {
    // A role of the platform holds in every domain.
    if (domain === PLATFORM_DOMAIN) this.forgetAll();
    this.domains.delete(domain);
    this.loaded.delete(domain);
  }

  private forgetAll(): void {
    this.domains.clear();
    this.loaded.clear();
  }
}

const userIdOf = (subject: Subject): string => (typeof subject === 'string' ? subject : subject.userId);

/**
 * What a token is for, whatever its creator may do. One that is kept to some knowledge bases makes, and hears of, no others;
 * one that is kept to some agents makes none.
 */
const mayAsk = (subject: Subject, domain: string, permission: Permission): boolean =>
  typeof subject === 'string' ||
  (domain === tenantDomain(subject.tenantId) &&
    subject.scopes.has(permission) &&
    !(subject.kbIds && BEYOND_SINGLE_KBS.includes(permission)) &&
    !(subject.agentIds && permission === 'agent:create'));
