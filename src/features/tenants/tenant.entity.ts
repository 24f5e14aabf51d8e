import type { Features } from '../../core/tenancy/feature-flags.js';
import type { ConfigOverrides } from '../../core/tenancy/tenant-config.js';
import type { LimitOverrides, PlanTier } from '../../core/tenancy/tenant-limits.js';
import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';

export const TENANT_TYPES = ['organization', 'department', 'project', 'customer'] as const;
export const TENANT_STATUSES = ['active', 'suspended', 'erasing'] as const;

/** What the tenant's mails and pages look like; null-free. */
export interface TenantBranding {
  logo_url?: string | undefined;
  /** `#rrggbb`. */
  primary_color?: string | undefined;
  company_name?: string | undefined;
}

@Entity('tenants')
export class Tenant {
  @PrimaryColumn('uuid')
  id!: string;

  /** Slug; unique in the installation. */
  @Column('text')
  name!: string;

  @Column('text', { name: 'display_name' })
  displayName!: string;

  @Column('text', { default: '' })
  description!: string;

  @Column('text', { default: 'organization' })
  type!: (typeof TENANT_TYPES)[number];

  @Column('uuid', { name: 'parent_id', nullable: true })
  parentId!: string | null;

  @Column('text', { name: 'plan_tier', default: 'free' })
  planTier!: PlanTier;

  /** Limits that were set for this tenant. */
  @Column('jsonb', { default: {} })
  quotas!: LimitOverrides;

  /** Where false, what goes past a limit is told, and let through. */
  @Column('boolean', { name: 'enforce_quotas', default: true })
  enforceQuotas!: boolean;

  @Column('text', { default: 'active' })
  status!: (typeof TENANT_STATUSES)[number];

  @Column('jsonb', { default: {} })
  settings!: Record<string, unknown>;

  @Column('jsonb', { default: {} })
  branding!: TenantBranding;

  /** Flags that the tenant has set itself. */
  @Column('jsonb', { default: {} })
  features!: Partial<Features>;

  /** Fields of the configuration that the tenant has set itself. */
  @Column('jsonb', { default: {} })
  config!: ConfigOverrides;

  @Column('jsonb', { default: {} })
  metadata!: Record<string, unknown>;

  @Column('uuid', { name: 'created_by', nullable: true })
  createdBy!: string | null;

  @CreateDateColumn({ type: 'timestamptz', name: 'created_at' })
  createdAt!: Date;

  @UpdateDateColumn({ type: 'timestamptz', name: 'updated_at' })
  updatedAt!: Date;
}
