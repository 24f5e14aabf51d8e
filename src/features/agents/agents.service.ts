import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { ModelError } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import {
  type ConfigOverrides,
  type EffectiveConfig,
  effectiveConfig,
} from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { slugOf } from '../knowledge-bases/knowledge-bases.dto.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import type { Agent, AgentTool } from './agent.js';
import type { CreateAgent, ListAgents, UpdateAgent } from './agents.dto.js';
import { type AgentChanges, AgentsRepository } from './agents.repository.js';

/** Agents of a knowledge base of the context's tenant. */
@Injectable()
export class AgentsService {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly agents: AgentsRepository,
    private readonly models: ModelsService,
    private readonly audit: AuditService,
  ) {}

  /** @throws Problem 404 */
  list(kbReference: string, query: ListAgents): Promise<Page<Agent>> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      return this.agents.list(tx, kb.id, query);
    });
  }

  /** @throws Problem 404 */
  get(kbReference: string, reference: string): Promise<Agent> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      return this.require(tx, kb.id, reference);
    });
  }

  /** @throws Problem 403 `quota_exceeded`; 404; 409 `name_taken`; 422 */
  async create(kbReference: string, input: CreateAgent): Promise<Agent> {
    await this.requireModel(input.model);
    const id = uuidv7();
    const isSystem = this.context.principal.kind === 'system';
    const ofTenant = await this.tenantConfig();
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      requireGraph(input.enabled_tools, effectiveConfig(ofTenant, kb.config));
      const agent = {
        id,
        tenantId: this.context.tenant.id,
        kbId: kb.id,
        createdBy: isSystem ? null : this.context.userId,
        name: input.name,
        // A name without any Latin letter or digit still gets an address.
        slug: input.slug ?? (slugOf(input.name) || `agent-${id.slice(-12)}`),
        description: input.description,
        systemPrompt: input.system_prompt,
        model: input.model,
        temperature: input.temperature,
        maxTokens: input.max_tokens,
        enabledTools: input.enabled_tools,
        toolConfig: input.tool_config,
        isActive: input.is_active,
      };
      if (!(await this.agents.insert(tx, agent))) throw slugTaken();
      this.audit.record(tx, {
        action: 'agent.created',
        resource: { type: 'agent', id },
        details: { kb_id: kb.id, ...toDetails(agent) },
      });
      return this.require(tx, kb.id, id);
    });
  }

  /** @throws Problem 404, 409 `name_taken`, 412, 422 */
  async update(
    kbReference: string,
    reference: string,
    input: UpdateAgent,
    ifMatch: IfMatch = null,
  ): Promise<Agent> {
    await this.requireModel(input.model ?? null);
    const ofTenant = await this.tenantConfig();
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      const before = await this.requireLocked(tx, kb.id, reference);
      requireGraph(input.enabled_tools ?? [], effectiveConfig(ofTenant, kb.config));
      requireMatch(ifMatch, before.updatedAt);
      const after = { ...before, ...changesOf(input) };
      if (!(await this.agents.update(tx, before.id, after))) throw slugTaken();
      this.audit.record(tx, {
        action: 'agent.updated',
        resource: { type: 'agent', id: before.id },
        details: { kb_id: before.kbId, before: toDetails(before), after: toDetails(after) },
      });
      return this.require(tx, before.kbId, before.id);
    });
  }

  /** Chats with it stay, as chats with the knowledge base. @throws Problem 404 */
  async delete(kbReference: string, reference: string): Promise<void> {
    await this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      const agent = await this.requireLocked(tx, kb.id, reference);
      await this.agents.delete(tx, agent.id);
      this.audit.record(tx, {
        action: 'agent.deleted',
        resource: { type: 'agent', id: agent.id },
        details: { kb_id: agent.kbId, name: agent.name, slug: agent.slug },
      });
    });
  }

  /** @param reference id or slug. @throws Problem 404 */
  async require(tx: Tx, kbId: string, reference: string): Promise<Agent> {
    const agent = await this.agents.find(tx, kbId, reference);
    if (!agent) throw Problem.notFound('agent');
    return agent;
  }

  /** What is named is there at present; whether it works is seen when it answers. */
  private async requireModel(model: string | null): Promise<void> {
    if (model === null) return;
    try {
      await this.models.chat(model);
    } catch (error) {
      if (error instanceof ModelError) return;
      if (!(error instanceof Problem) || error.code !== 'unknown_model') throw error;
      throw Problem.invalid([{ path: 'model', code: error.code, message: error.detail }]);
    }
  }

  private async requireLocked(tx: Tx, kbId: string, reference: string): Promise<Agent> {
    const { id } = await this.require(tx, kbId, reference);
    await this.agents.lock(tx, id);
    return this.require(tx, kbId, id);
  }

  private async tenantConfig(): Promise<ConfigOverrides> {
    return (await this.directory.find(this.context.tenant.id))?.config ?? {};
  }
}

/** Where the graph is turned off later, the tool says so when it is used. */
function requireGraph(tools: readonly AgentTool[], { graph }: Pick<EffectiveConfig, 'graph'>): void {
  if (graph !== 'off' || !tools.includes('graph_search')) return;
  throw Problem.invalid([
    {
      path: 'enabled_tools',
      code: 'graph_off',
      message: 'graph_search is not available: the knowledge base has no graph, its setting `graph` is off',
    },
  ]);
}

/** What a change leaves out stays as it is. */
function changesOf(input: UpdateAgent): Partial<AgentChanges> {
  const changes: { [Field in keyof AgentChanges]: AgentChanges[Field] | undefined } = {
    name: input.name,
    slug: input.slug,
    description: input.description,
    systemPrompt: input.system_prompt,
    model: input.model,
    temperature: input.temperature,
    maxTokens: input.max_tokens,
    enabledTools: input.enabled_tools,
    toolConfig: input.tool_config,
    isActive: input.is_active,
  };
  return Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
}

const toDetails = (agent: AgentChanges) => ({
  name: agent.name,
  slug: agent.slug,
  description: agent.description,
  system_prompt: agent.systemPrompt,
  model: agent.model,
  temperature: agent.temperature,
  max_tokens: agent.maxTokens,
  enabled_tools: [...agent.enabledTools],
  tool_config: agent.toolConfig,
  is_active: agent.isActive,
});

const slugTaken = (): Problem =>
  Problem.conflict('name_taken', 'Another agent of this knowledge base has this slug.');
