import { Injectable } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import { type Env, SettingsError } from '../../foundation/config/env.js';
import { FEATURE_FLAGS, FEATURE_NAMES, type FeatureName, type Features } from './feature-flags.js';
import { TenantContext } from './tenant-context.js';
import { TenantDirectory } from './tenant-directory.js';

/** A feature of a tenant, with the level that set it. */
export interface ResolvedFeature {
  name: FeatureName;
  value: Features[FeatureName];
  level: 'default' | 'platform' | 'tenant';
}

/** Which features a tenant has: its own setting, else the platform's, else the default. */
@Injectable()
export class FeaturesService {
  private readonly ofPlatform: Partial<Features>;

  /** @throws SettingsError where FEATURES names what is no feature, or gives it a value that is none */
  constructor(
    @InjectEnv() env: Pick<Env, 'features'>,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
  ) {
    this.ofPlatform = checkPlatformFeatures(env.features);
  }

  /** Of the context's tenant. Remembered until they change; not inside of a transaction. */
  async get<Name extends FeatureName>(name: Name): Promise<Features[Name]> {
    const tenant = await this.directory.find(this.context.tenant.id);
    return this.effective(tenant?.features ?? {})[name];
  }

  /** Every feature, where a tenant has set `ofTenant` itself. */
  effective(ofTenant: Partial<Features>): Features {
    return Object.fromEntries(this.resolve(ofTenant).map(({ name, value }) => [name, value])) as Features;
  }

  resolve(ofTenant: Partial<Features>): ResolvedFeature[] {
    return FEATURE_NAMES.map(name => {
      const own = ofTenant[name];
      if (own !== undefined) return { name, value: own, level: 'tenant' };
      const platform = this.ofPlatform[name];
      if (platform !== undefined) return { name, value: platform, level: 'platform' };
      return { name, value: FEATURE_FLAGS[name].default, level: 'default' };
    });
  }
}

function checkPlatformFeatures(features: Record<string, unknown>): Partial<Features> {
  const problems = Object.entries(features).flatMap(([name, value]) => {
    if (!Object.hasOwn(FEATURE_FLAGS, name)) {
      return [`FEATURES names ${name}, which is no feature. There are: ${FEATURE_NAMES.join(', ')}.`];
    }
    const { error } = FEATURE_FLAGS[name as FeatureName].schema.safeParse(value);
    return error ? [`FEATURES gives ${name} a value that it cannot have: ${error.issues[0]?.message}.`] : [];
  });
  if (problems.length > 0) throw new SettingsError(problems.join('\n'));
  return features;
}
