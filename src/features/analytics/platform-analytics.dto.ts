import { z } from 'zod';
import { listQuery } from '../../foundation/http/pagination.js';
import { TENANT_METRICS, type TenantValue } from './platform-analytics.repository.js';
import type { TenantComparison } from './platform-analytics.service.js';
import { PERIODS, changePct, periodField } from './usage-period.js';

const SORTS = ['-value', 'value', '-change', 'change', 'name', '-name', 'plan_tier', '-plan_tier'] as const;

export const compareTenantsQuery = listQuery(['value', 'change', 'name', 'plan_tier'], {
  metric: z
    .enum(TENANT_METRICS)
    .default('queries')
    .describe('`users`, `kbs`, `documents` and `storage_mb` are those of now, everything else of the period'),
  period: periodField.default('30d'),
  format: z.enum(['json', 'csv']).default('json').describe('`csv`: all tenants in one file, without pages'),
}).extend({ sort: z.enum(SORTS).default('-value') });

const changeField = z
  .number()
  .nullable()
  .describe('Per cent against the period before; null: nothing before')
  .meta({ example: 8.2 });
const valueField = z.number().meta({ example: 1250 });

export const tenantComparisonSchema = z
  .object({
    metric: z.enum(TENANT_METRICS),
    period: z.enum(PERIODS),
    from: z.iso.datetime().meta({ example: '2026-01-01T10:00:00.000Z' }),
    until: z.iso.datetime().describe('Exclusive').meta({ example: '2026-01-31T10:00:00.000Z' }),
    totals: z
      .object({
        tenants: z.int().meta({ example: 12 }),
        value: valueField.describe('The sum of all tenants’'),
        change_pct: changeField,
      })
      .describe('Of all tenants of the installation'),
    items: z.array(
      z.object({
        tenant_id: z.uuid(),
        name: z.string().meta({ example: 'acme-corp' }),
        display_name: z.string().meta({ example: 'Acme Corporation' }),
        plan_tier: z.string().meta({ example: 'pro' }),
        status: z.string().meta({ example: 'active' }),
        value: valueField,
        share_pct: z.number().nullable().describe('Of the sum of all tenants’').meta({ example: 31.4 }),
        change_pct: changeField,
      }),
    ),
    total: z.int(),
    page: z.int(),
    page_size: z.int(),
  })
  .meta({ id: 'TenantComparison' });

export type CompareTenants = z.infer<typeof compareTenantsQuery>;

const rounded = (value: number): number => Math.round(value * 100) / 100;

const toItem = (tenant: TenantValue, ofAll: number) => ({
  tenant_id: tenant.id,
  name: tenant.name,
  display_name: tenant.displayName,
  plan_tier: tenant.planTier,
  status: tenant.status,
  value: rounded(tenant.value),
  share_pct: ofAll > 0 ? Math.round((tenant.value / ofAll) * 1000) / 10 : null,
  change_pct: changePct(tenant.value, tenant.before),
});

export function toTenantComparison(
  { items, total, platform, window }: TenantComparison,
  query: CompareTenants,
): z.infer<typeof tenantComparisonSchema> {
  return {
    metric: query.metric,
    period: query.period,
    from: window.from.toISOString(),
    until: window.until.toISOString(),
    totals: {
      tenants: platform.tenants,
      value: rounded(platform.value),
      change_pct: changePct(platform.value, platform.before),
    },
    items: items.map(tenant => toItem(tenant, platform.value)),
    total,
    page: query.page,
    page_size: query.page_size,
  };
}

/** The same as columns and rows. */
export function toTenantTable({ items, platform }: TenantComparison, query: CompareTenants) {
  const columns = ['tenant_id', 'name', 'display_name', 'plan_tier', 'status'] as const;
  const values = ['value', 'share_pct', 'change_pct'] as const;
  const tenants = items.map(tenant => toItem(tenant, platform.value));
  return {
    columns: [...columns, query.metric, 'share_pct', 'change_pct'],
    rows: tenants.map(tenant => [...columns, ...values].map(column => tenant[column])),
  };
}
