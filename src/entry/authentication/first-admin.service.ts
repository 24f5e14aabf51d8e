import { Injectable, Logger } from '@nestjs/common';
import { hash } from '@node-rs/argon2';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PLATFORM_DOMAIN } from '../../core/authorization/permissions.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { UsersRepository } from '../../features/users/users.repository.js';
import { UsersService } from '../../features/users/users.service.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { randomSecret } from '../../foundation/crypto/opaque-token.js';

const ROLE = 'platform_admin';

/** Makes the platform's first admin, where the platform has none. */
@Injectable()
export class FirstAdminService {
  private readonly logger = new Logger(FirstAdminService.name);

  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly database: PlatformDatabase,
    private readonly authorization: AuthorizationService,
    private readonly users: UsersService,
    private readonly usersRepository: UsersRepository,
  ) {}

  /** @returns the password that was made up for it, to be shown once; null where there was nothing to make up */
  async ensure(): Promise<string | null> {
    const { email, password } = this.env.platformAdmin;
    if (await this.exists()) return null;
    if (!password && this.env.production) {
      this.logger.warn(
        'The platform has no admin. Set PLATFORM_ADMIN_EMAIL and PLATFORM_ADMIN_PASSWORD, and start again.',
      );
      return null;
    }
    const chosen = password ?? randomSecret().slice(0, 20);
    const passwordHash = await hash(chosen);
    const made = await this.database.run(async tx => {
      // Of several processes that start at once, one makes it.
      const holders = await this.authorization.lockFirstHolder(tx, ROLE, PLATFORM_DOMAIN);
      if (holders.length > 0) return false;
      const existing = await this.usersRepository.findByEmail(tx, email);
      const user =
        existing ?? (await this.users.insert(tx, { email, displayName: 'Platform admin' }, passwordHash));
      await this.authorization.assignRole(tx, user.id, ROLE, PLATFORM_DOMAIN);
      return existing === null;
    });
    return made && !password ? chosen : null;
  }

  private async exists(): Promise<boolean> {
    return this.database.run(
      async tx => (await this.authorization.lockHolders(tx, ROLE, PLATFORM_DOMAIN)).length > 0,
    );
  }
}
