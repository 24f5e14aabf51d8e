import { Injectable } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { FEATURE_FLAGS, type FeatureName, type Features } from './feature-flags.js';
import { TenantContext } from './tenant-context.js';
import { TenantDirectory } from './tenant-directory.js';

/** Which features a tenant has: its own setting, else the platform's, else the default. */
@Injectable()
export class FeaturesService {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
  ) {}

  /** Of the context's tenant. Remembered until they change; not inside of a transaction. */
  async get<Name extends FeatureName>(name: Name): Promise<Features[Name]> {
    const tenant = await this.directory.find(this.context.tenant.id);
    const value = tenant?.features[name] ?? this.env.features[name] ?? FEATURE_FLAGS[name].default;
    return value as Features[Name];
  }
}
