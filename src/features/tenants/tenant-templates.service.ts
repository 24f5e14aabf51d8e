import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import { fillPlaceholders } from './template-placeholders.js';
import { fieldErrors } from './tenant-fields.js';
import {
  type CreateTemplate,
  type ListTemplates,
  type ReplaceTemplate,
  type TemplateBody,
  type TenantTemplate,
  replaceTemplateSchema,
} from './tenant-templates.dto.js';
import { TenantTemplatesRepository } from './tenant-templates.repository.js';

/** What new tenants are made from. */
@Injectable()
export class TenantTemplatesService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly templates: TenantTemplatesRepository,
    private readonly audit: AuditService,
  ) {}

  list(query: ListTemplates): Promise<Page<TenantTemplate>> {
    return this.database.run(tx => this.templates.list(tx, query));
  }

  /** @throws Problem 404 */
  async get(name: string): Promise<TenantTemplate> {
    const template = await this.database.run(tx => this.templates.find(tx, name));
    if (!template) throw Problem.notFound('template');
    return template;
  }

  /** @throws Problem 409 `name_taken` */
  create({ name, description, ...body }: CreateTemplate): Promise<TenantTemplate> {
    return this.database.run(async tx => {
      const createdBy = this.context.userId;
      if (!(await this.templates.insert(tx, { name, description, body, createdBy }))) {
        throw Problem.conflict('name_taken', `There is a template ${name} already.`);
      }
      this.audit.recordForPlatform(tx, {
        action: 'tenant_template.created',
        resource: { type: 'tenant_template', id: name },
        details: summaryOf(description, body),
      });
      return (await this.templates.find(tx, name)) as TenantTemplate;
    });
  }

  /** @throws Problem 404, 412 */
  replace(
    name: string,
    { description, ...body }: ReplaceTemplate,
    ifMatch: IfMatch = null,
  ): Promise<TenantTemplate> {
    return this.database.run(async tx => {
      const before = await this.templates.find(tx, name, { lock: true });
      if (!before) throw Problem.notFound('template');
      requireMatch(ifMatch, before.updatedAt);
      await this.templates.update(tx, name, { description, body });
      this.audit.recordForPlatform(tx, {
        action: 'tenant_template.updated',
        resource: { type: 'tenant_template', id: name },
        details: {
          before: summaryOf(before.description, before.body),
          after: summaryOf(description, body),
        },
      });
      return (await this.templates.find(tx, name)) as TenantTemplate;
    });
  }

  /** @throws Problem 404 */
  delete(name: string): Promise<void> {
    return this.database.run(async tx => {
      const before = await this.templates.find(tx, name, { lock: true });
      if (!before) throw Problem.notFound('template');
      await this.templates.delete(tx, name);
      this.audit.recordForPlatform(tx, {
        action: 'tenant_template.deleted',
        resource: { type: 'tenant_template', id: name },
        details: summaryOf(before.description, before.body),
      });
    });
  }

  /**
   * What a template says of one tenant.
   *
   * @throws Problem 422 for a template that is not there, a placeholder without a value, and a template that named a
   *   role, a permission or a feature that there is no more
   */
  async fill(name: string, values: ReadonlyMap<string, string>): Promise<TemplateBody> {
    const template = await this.database.run(tx => this.templates.find(tx, name));
    if (!template) {
      throw Problem.invalid([
        { path: 'template', code: 'unknown_template', message: `There is no template ${name}.` },
      ]);
    }
    const { settings, config, branding, metadata, members, ...rest } = template.body;
    const missing = new Set<string>();
    const filled = fillPlaceholders({ settings, config, branding, metadata, members }, values, missing);
    if (missing.size > 0) {
      throw Problem.invalid(
        [...missing].map(placeholder => ({
          path: `placeholders.${placeholder}`,
          code: 'missing_placeholder',
          message: `The template ${name} needs a value for it.`,
        })),
      );
    }
    const { data, error } = replaceTemplateSchema.safeParse({ ...rest, ...filled });
    if (error) throw Problem.invalid(fieldErrors(error, 'template'));
    const { description: _, ...body } = data;
    return body;
  }
}

/** For the audit: of free JSON its keys, which may be many and large. */
function summaryOf(description: string, body: TemplateBody): Record<string, unknown> {
  return {
    description,
    type: body.type,
    plan_tier: body.plan_tier,
    quotas: body.quotas,
    enforce_quotas: body.enforce_quotas,
    features: body.features,
    config: Object.keys(body.config ?? {}),
    settings: Object.keys(body.settings ?? {}),
    branding: Object.keys(body.branding ?? {}),
    metadata: Object.keys(body.metadata ?? {}),
    roles: body.roles?.map(role => ({ name: role.name, permissions: role.permissions })),
    members: body.members,
  };
}
