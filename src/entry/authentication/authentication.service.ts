import { Injectable } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PLATFORM_DOMAIN } from '../../core/authorization/permissions.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { type KnownTenant, TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { MembershipsRepository, type Membership } from '../../features/members/memberships.repository.js';
import type { User } from '../../features/users/user.entity.js';
import { UsersService } from '../../features/users/users.service.js';
import { Problem } from '../../foundation/http/problem.js';
import type { Login, Register } from './authentication.dto.js';
import { type Client, type IssuedTokens, SessionsService } from './sessions.service.js';
import { SignInLimiter } from './sign-in-limiter.js';

export interface SignedIn extends IssuedTokens {
  user: User;
}

@Injectable()
export class AuthenticationService {
  constructor(
    private readonly users: UsersService,
    private readonly sessions: SessionsService,
    private readonly limiter: SignInLimiter,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly database: PlatformDatabase,
    private readonly memberships: MembershipsRepository,
  ) {}

  /** @throws Problem 409 `email_taken`, 429 */
  async register(input: Register, client: Client): Promise<SignedIn> {
    await this.limiter.countAddress(client.ip);
    const displayName = input.display_name ?? input.email.split('@', 1).join();
    const user = await this.users.register({ email: input.email, displayName, password: input.password });
    return { user, ...(await this.sessions.open(user.id, client, null)) };
  }

  /** @throws Problem 401 `invalid_credentials`, 404 for a tenant that is not one's own, 429 */
  async login(input: Login, client: Client): Promise<SignedIn> {
    await this.limiter.countAddress(client.ip);
    await this.limiter.checkAccount(input.email);
    const user = await this.users.authenticate(input.email, input.password);
    if (!user) {
      await this.limiter.countFailure(input.email);
      throw Problem.unauthorized('invalid_credentials', 'The e-mail address or the password is wrong.');
    }
    await this.limiter.forgive(input.email);
    const tenant = input.tenant ? await this.ownTenant(user.id, input.tenant) : null;
    return { user, ...(await this.sessions.open(user.id, client, tenant?.id ?? null)) };
  }

  async refresh(refreshToken: string, client: Client): Promise<IssuedTokens> {
    await this.limiter.countAddress(client.ip);
    return this.sessions.refresh(refreshToken);
  }

  /** @throws Problem 404 for a tenant that is not one's own */
  async switchTenant(userId: string, sessionId: string, reference: string): Promise<string> {
    const tenant = await this.ownTenant(userId, reference);
    return this.sessions.switchTenant(userId, sessionId, tenant.id);
  }

  async me(userId: string): Promise<{ user: User; platformRoles: string[]; memberships: Membership[] }> {
    const user = await this.users.get(userId);
    const [memberships, platformRoles] = await this.database.run(async tx => [
      await this.memberships.ofUser(tx, userId),
      await this.authorization.storedRolesOf(tx, userId, PLATFORM_DOMAIN),
    ]);
    return { user, platformRoles, memberships };
  }

  private async ownTenant(userId: string, reference: string): Promise<KnownTenant> {
    const tenant = await this.directory.find(reference);
    if (!tenant || !(await this.authorization.accessOf(userId, tenant.id)).member) {
      throw Problem.notFound('tenant');
    }
    return tenant;
  }
}
