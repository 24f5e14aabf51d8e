import { Injectable, type OnModuleInit } from '@nestjs/common';
import { type Enforcer, newEnforcer, newModelFromString } from 'casbin';
import { LRUCache } from 'lru-cache';
import { readFileSync } from 'node:fs';
import type { Env } from '../../foundation/config/env.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { CasbinRulesRepository } from './casbin-rules.repository.js';
import { casbinFile } from './default-policy.js';
import { PERMISSIONS, PLATFORM_DOMAIN, type Permission, userDomain } from './permissions.js';

const POLICY_TOPIC = 'policy';
/** Role links are rebuilt with every user added; beyond this many a domain starts a new enforcer. */
const USERS_PER_ENFORCER = 200;

/** What is remembered of one domain until its policy changes: an enforcer with the users asked for, and its decisions. */
interface DomainPolicy {
  enforcer: Enforcer;
  decisions: Map<string, Map<Permission, boolean>>;
  /** Loading users one after the other: the enforcer has one adapter at a time. */
  loading: Promise<void>;
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
    @InjectEnv() env: Env,
    private readonly database: PlatformDatabase,
    private readonly rules: CasbinRulesRepository,
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

  /** Whether `userId` may do `permission` in `domain`. Synchronous once the answer is known. */
  can(userId: string, domain: string, permission: Permission): boolean | Promise<boolean> {
    const known = this.loaded.get(domain)?.decisions.get(userId)?.get(permission);
    return known ?? this.decide(userId, domain, permission);
  }

  /** Every permission that `userId` has in `domain`. */
  async permissionsOf(userId: string, domain: string): Promise<Permission[]> {
    const permissions = Object.keys(PERMISSIONS) as Permission[];
    const allowed = await Promise.all(
      permissions.map(async permission => this.can(userId, domain, permission)),
    );
    return permissions.filter((_, index) => allowed[index]);
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
   * Whether `userId` holds everything that `role` gives in `domain`: nobody gives, or takes from others, what they
   * do not hold.
   */
  async outranks(userId: string, role: string, domain: string): Promise<boolean> {
    // Asked as a subject of its own, a role has exactly its own permissions.
    const [held, given] = await Promise.all([
      this.permissionsOf(userId, domain),
      this.permissionsOf(role, domain),
    ]);
    return given.every(permission => held.includes(permission));
  }

  /** Announces that rules of `domain` changed in this transaction. */
  async policyChanged(tx: Tx, domain: string): Promise<void> {
    await this.changes.publish(tx, POLICY_TOPIC, domain);
  }

  private async decide(userId: string, domain: string, permission: Permission): Promise<boolean> {
    const policy = await this.policyFor(domain, userId);
    const decisions = policy.decisions.get(userId) as Map<Permission, boolean>;
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
    if (!pending || (known && known.decisions.size >= USERS_PER_ENFORCER && !known.decisions.has(userId))) {
      pending = this.build();
      this.domains.set(domain, pending);
      this.loaded.delete(domain);
      pending.catch(() => this.domains.delete(domain));
    }
    const policy = await pending;
    if (!policy.decisions.has(userId)) {
      policy.loading = policy.loading.catch(() => undefined).then(() => this.addUser(policy, domain, userId));
      await policy.loading;
    }
    // A change that came in meanwhile has replaced this policy: what it says is then used once and not remembered.
    if (this.domains.peek(domain) === pending) this.loaded.set(domain, policy);
    return policy;
  }

  private async build(): Promise<DomainPolicy> {
    const enforcer = await newEnforcer(newModelFromString(this.modelText));
    return { enforcer, decisions: new Map(), loading: Promise.resolve() };
  }

  private async addUser(policy: DomainPolicy, domain: string, userId: string): Promise<void> {
    if (policy.decisions.has(userId)) return;
    const first = policy.decisions.size === 0;
    await this.database.run(async tx => {
      policy.enforcer.setAdapter(await this.rules.adapter(tx));
      await policy.enforcer.loadIncrementalFilteredPolicy(
        this.rules.filterFor(domain, PLATFORM_DOMAIN, userId, first),
      );
    });
    if (domain === userDomain(userId)) await policy.enforcer.getRoleManager().addLink(userId, 'self', domain);
    policy.decisions.set(userId, new Map());
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
