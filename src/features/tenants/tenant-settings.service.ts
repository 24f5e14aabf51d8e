import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import type { Features } from '../../core/tenancy/feature-flags.js';
import { FeaturesService, type ResolvedFeature } from '../../core/tenancy/features.service.js';
import {
  type ConfigOverrides,
  type ResolvedConfig,
  configOverridesSchema,
  resolveConfig,
} from '../../core/tenancy/tenant-config.js';
import type { ConfigChanges } from '../../core/tenancy/tenant-config.dto.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { mergePatch } from '../../foundation/http/merge-patch.js';
import { Problem } from '../../foundation/http/problem.js';
import { changesBetween } from './tenant-changes.js';
import { requireValid } from './tenant-fields.js';
import type { Tenant } from './tenant.entity.js';
import type { ChangeFeatures } from './tenant-settings.dto.js';
import { TenantsRepository } from './tenants.repository.js';

/** What a tenant sets itself where others have set something before: features and configuration. */
@Injectable()
export class TenantSettingsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly tenants: TenantsRepository,
    private readonly directory: TenantDirectory,
    private readonly featureFlags: FeaturesService,
    private readonly audit: AuditService,
  ) {}

  async features(): Promise<ResolvedFeature[]> {
    const tenant = await this.database.run(tx => this.tenants.findById(tx, this.context.tenant.id));
    return this.featureFlags.resolve(tenant?.features ?? {});
  }

  async changeFeatures({ features }: ChangeFeatures): Promise<ResolvedFeature[]> {
    return this.database.run(async tx => {
      const tenant = await this.lock(tx);
      const changed = mergePatch(tenant.features, features) as Partial<Features>;
      await this.save(tx, tenant, { features: changed }, 'tenant.features_changed');
      return this.featureFlags.resolve(changed);
    });
  }

  async config(): Promise<ResolvedConfig> {
    const tenant = await this.database.run(tx => this.tenants.findById(tx, this.context.tenant.id));
    return resolveConfig(['tenant', tenant?.config ?? {}]);
  }

  /** @throws Problem 422 where the fields do not fit together */
  async changeConfig(changes: ConfigChanges): Promise<ResolvedConfig> {
    return this.database.run(async tx => {
      const tenant = await this.lock(tx);
      const config: ConfigOverrides = requireValid(
        configOverridesSchema,
        mergePatch(tenant.config, changes),
        '',
      );
      await this.save(tx, tenant, { config }, 'tenant.config_changed');
      return resolveConfig(['tenant', config]);
    });
  }

  private async lock(tx: Tx): Promise<Tenant> {
    const tenant = await this.tenants.lock(tx, this.context.tenant.id);
    if (!tenant || tenant.status === 'erasing') throw Problem.notFound('tenant');
    return tenant;
  }

  private async save(
    tx: Tx,
    before: Tenant,
    after: Partial<Pick<Tenant, 'features' | 'config'>>,
    action: string,
  ): Promise<void> {
    const { features, config } = before;
    const details = changesBetween({ features, config }, after);
    if (!details) return;
    await this.tenants.update(tx, before.id, after);
    await this.directory.tenantChanged(tx, before.id);
    this.audit.record(tx, { action, resource: { type: 'tenant', id: before.id }, details });
  }
}
