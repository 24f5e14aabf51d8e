import { Injectable } from '@nestjs/common';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { ModelKeys } from '../../core/models/model-keys.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantVariablesService } from '../../core/variables/tenant-variables.service.js';
import { TenantsRepository } from './tenants.repository.js';

const TENANTS_AT_ONCE = 500;
const MODEL_KEYS = 'keys of models';

/** What else is sealed in the context's tenant. @returns how many values were sealed anew, and what no key opens */
export type Reseal = () => Promise<{ count: number; lost: string[] }>;

export interface KeyRotation {
  /** How many values were sealed anew. */
  variables: number;
  jobs: number;
  /** Of further rooms, by what they seal. */
  others: Record<string, number>;
  /** What no key of the settings opens, by name. */
  lost: string[];
}

/** Seals with the present key whatever is sealed with one of before, so that those can be thrown away. */
@Injectable()
export class KeyRotationService {
  private readonly others = new Map<string, Reseal>();

  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly tenants: TenantsRepository,
    private readonly variables: TenantVariablesService,
    private readonly modelKeys: ModelKeys,
    private readonly jobs: BackgroundJobs,
  ) {
    this.include(MODEL_KEYS, () => this.modelKeys.reseal());
  }

  /** For rooms above this one. To be called while the application starts. @param what in the plural */
  include(what: string, reseal: Reseal): void {
    this.others.set(what, reseal);
  }

  /** May run beside the servers, and again after it was cut off. */
  async run(): Promise<KeyRotation> {
    let variables = 0;
    const others = Object.fromEntries([...this.others.keys()].map(what => [what, 0]));
    const lost: string[] = [];
    for await (const tenant of this.everyTenant()) {
      const renewed = await this.context.runAsSystem(tenant, () => this.variables.reseal());
      variables += renewed.count;
      lost.push(...renewed.lost.map(name => `the variable ${name} of the tenant ${tenant.name}`));
      for (const [what, reseal] of this.others) {
        const more = await this.context.runAsSystem(tenant, reseal);
        others[what] = (others[what] ?? 0) + more.count;
        lost.push(...more.lost.map(name => `${name} of the tenant ${tenant.name}`));
      }
    }
    const platform = await this.modelKeys.resealPlatform();
    others[MODEL_KEYS] = (others[MODEL_KEYS] ?? 0) + platform.count;
    lost.push(...platform.lost.map(name => `${name} of the platform`));
    const jobs = await this.jobs.resealPayloads();
    lost.push(...jobs.lost.map(id => `the job ${id}`));
    return { variables, jobs: jobs.count, others, lost };
  }

  private async *everyTenant(): AsyncGenerator<{ id: string; name: string }> {
    for (let after: string | null = null; ;) {
      const page: Array<{ id: string; name: string }> = await this.database.run(tx =>
        this.tenants.namesAfter(tx, after, TENANTS_AT_ONCE),
      );
      yield* page;
      after = page.at(-1)?.id ?? null;
      if (after === null) return;
    }
  }
}
