import type { INestApplicationContext } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { ApiClient, type HttpEndpoint, jsonBody } from './api-client.js';
import { TenantContext } from './core/tenancy/tenant-context.js';
import { type KnownTenant, TenantDirectory } from './core/tenancy/tenant-directory.js';
import {
  type CreateEvaluation,
  type WireEvaluation,
  listEvaluationsQuery,
  toEvaluation,
} from './features/evaluation/evaluations.dto.js';
import { EvaluationsService } from './features/evaluation/evaluations.service.js';
import { Problem } from './foundation/http/problem.js';

/** What is evaluated. */
export interface EvaluatedKb {
  /** Id or name. */
  tenant: string;
  /** Id or slug. */
  kb: string;
}

/** The evaluations of a knowledge base, wherever it is. */
export interface EvaluationTarget {
  start(evaluation: CreateEvaluation): Promise<WireEvaluation>;
  get(id: string): Promise<WireEvaluation>;
  /** Those that have asked the same questions, the newest first, this one among them. */
  ofSameQuestions(evaluation: WireEvaluation): Promise<WireEvaluation[]>;
}

const sameQuestions = ({ question_set }: WireEvaluation) => ({
  question_set,
  status: 'done' as const,
  sort: '-created_at' as const,
});

/** In the database that this process has opened itself. As the system. */
export class EvaluationsHere implements EvaluationTarget {
  private readonly service: EvaluationsService;

  private constructor(
    private readonly nest: INestApplicationContext,
    private readonly tenant: KnownTenant,
    private readonly of: EvaluatedKb,
  ) {
    this.service = nest.get(EvaluationsService, { strict: false });
  }

  /** @throws Problem with a sentence where there is no such tenant */
  static async open(nest: INestApplicationContext, of: EvaluatedKb): Promise<EvaluationsHere> {
    const tenant = await nest.get(TenantDirectory, { strict: false }).find(of.tenant);
    if (!tenant) throw new Problem(404, 'not_found', `There is no tenant "${of.tenant}".`);
    return new EvaluationsHere(nest, tenant, of);
  }

  start(evaluation: CreateEvaluation): Promise<WireEvaluation> {
    return this.within(async () => toEvaluation(await this.service.create(this.of.kb, evaluation)));
  }

  get(id: string): Promise<WireEvaluation> {
    return this.within(async () => toEvaluation(await this.service.get(this.of.kb, id)));
  }

  async ofSameQuestions(evaluation: WireEvaluation): Promise<WireEvaluation[]> {
    const query = listEvaluationsQuery.parse(sameQuestions(evaluation));
    const { items } = await this.within(() => this.service.list(this.of.kb, query));
    return items.map(toEvaluation);
  }

  private within<T>(work: () => Promise<T>): Promise<T> {
    const asked = this.nest.get(TenantContext).runAsSystem(this.tenant, work);
    return asked.catch((error: unknown) => {
      if (!(error instanceof Problem && error.status === 404)) throw error;
      throw new Problem(404, 'not_found', missing(this.of));
    });
  }
}

/** On a running server, through its API. */
export class EvaluationsOverHttp implements EvaluationTarget {
  private readonly client: ApiClient;
  private readonly path: string;

  constructor(endpoint: HttpEndpoint, of: EvaluatedKb) {
    this.client = new ApiClient(endpoint, { tenant: of.tenant, missing: missing(of) });
    this.path = `/tenants/${encodeURIComponent(of.tenant)}/kbs/${encodeURIComponent(of.kb)}/evaluations`;
  }

  async start(evaluation: CreateEvaluation): Promise<WireEvaluation> {
    // Whoever has mistyped the address need not wait for it.
    await this.read('?page_size=1', 1);
    // Sent again, because the answer was lost, it is the same one.
    const body = jsonBody(evaluation, { 'idempotency-key': randomUUID() });
    const answer = await this.client.send('POST', this.path, body);
    if (answer.status !== 202) throw this.client.faultOf(answer);
    return answer.body as WireEvaluation;
  }

  async get(id: string): Promise<WireEvaluation> {
    return (await this.read(`/${id}`)) as WireEvaluation;
  }

  async ofSameQuestions(evaluation: WireEvaluation): Promise<WireEvaluation[]> {
    const found = await this.read(`?${new URLSearchParams(sameQuestions(evaluation)).toString()}`);
    return (found as { items: WireEvaluation[] }).items;
  }

  private async read(rest: string, attempts?: number): Promise<unknown> {
    const answer = await this.client.send('GET', `${this.path}${rest}`, undefined, attempts);
    if (answer.status !== 200) throw this.client.faultOf(answer);
    return answer.body;
  }
}

const missing = ({ tenant, kb }: EvaluatedKb): string =>
  `The tenant "${tenant}" has no knowledge base "${kb}", or its evaluation was deleted.`;
