import { Injectable } from '@nestjs/common';
import { validate as isUuid } from 'uuid';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { Agent } from './agent.js';
import type { ListAgents } from './agents.dto.js';

/** Of PostgreSQL. */
const UNIQUE_VIOLATION = '23505';

const SORTABLE = { created_at: 'created_at', name: 'lower(name)' };

const AGENT = `
  id, kb_id AS "kbId", name, slug, description, system_prompt AS "systemPrompt", model, temperature,
  max_tokens AS "maxTokens", enabled_tools AS "enabledTools", tool_config AS "toolConfig", is_active AS "isActive",
  created_by AS "createdBy", created_at AS "createdAt", updated_at AS "updatedAt"`;

/** What a change may change. */
export type AgentChanges = Omit<Agent, 'id' | 'kbId' | 'createdBy' | 'createdAt' | 'updatedAt'>;

const valuesOf = (agent: AgentChanges): unknown[] => [
  agent.name,
  agent.slug,
  agent.description,
  agent.systemPrompt,
  agent.model,
  agent.temperature,
  agent.maxTokens,
  agent.enabledTools,
  JSON.stringify(agent.toolConfig),
  agent.isActive,
];

/** Agents of the transaction's tenant. */
@Injectable()
export class AgentsRepository {
  /** @param reference id or slug */
  async find(tx: Tx, kbId: string, reference: string): Promise<Agent | null> {
    const rows: Agent[] = await tx.query(
      `SELECT ${AGENT} FROM agents WHERE kb_id = $1 AND ${isUuid(reference) ? 'id' : 'slug'} = $2`,
      [kbId, reference],
    );
    return rows[0] ?? null;
  }

  async list(tx: Tx, kbId: string, query: ListAgents): Promise<Page<Agent>> {
    const conditions = ['kb_id = $1'];
    const parameters: unknown[] = [kbId];
    if (query.is_active !== undefined) {
      conditions.push(`is_active = $${parameters.push(query.is_active)}`);
    }
    if (query.search) {
      const pattern = `$${parameters.push(likePattern(query.search))}`;
      conditions.push(`(name ILIKE ${pattern} OR slug ILIKE ${pattern})`);
    }
    const where = conditions.join(' AND ');
    const items: Agent[] = await tx.query(
      `SELECT ${AGENT} FROM agents WHERE ${where} ORDER BY ${orderBy(query.sort, SORTABLE)}, id
       LIMIT ${query.page_size} OFFSET ${(query.page - 1) * query.page_size}`,
      parameters,
    );
    const [{ total }]: [{ total: number }] = await tx.query(
      `SELECT count(*)::int AS total FROM agents WHERE ${where}`,
      parameters,
    );
    return { items, total };
  }

  /** @returns false where the slug is taken */
  async insert(
    tx: Tx,
    agent: AgentChanges & Pick<Agent, 'id' | 'kbId' | 'createdBy'> & { tenantId: string },
  ): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO agents (id, tenant_id, kb_id, created_by, name, slug, description, system_prompt, model, temperature,
                           max_tokens, enabled_tools, tool_config, is_active)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
       ON CONFLICT (kb_id, slug) DO NOTHING RETURNING id`,
      [agent.id, agent.tenantId, agent.kbId, agent.createdBy, ...valuesOf(agent)],
    );
    return rows.length === 1;
  }

  /** Nobody else changes it until the transaction ends. */
  async lock(tx: Tx, id: string): Promise<void> {
    await tx.query('SELECT FROM agents WHERE id = $1 FOR NO KEY UPDATE', [id]);
  }

  /** @returns false where the slug is taken; the transaction is good for nothing then */
  async update(tx: Tx, id: string, agent: AgentChanges): Promise<boolean> {
    try {
      await tx.query(
        `UPDATE agents SET name = $2, slug = $3, description = $4, system_prompt = $5, model = $6, temperature = $7,
                           max_tokens = $8, enabled_tools = $9, tool_config = $10, is_active = $11, updated_at = now()
         WHERE id = $1`,
        [id, ...valuesOf(agent)],
      );
      return true;
    } catch (error) {
      if ((error as { driverError?: { code?: string } }).driverError?.code === UNIQUE_VIOLATION) return false;
      throw error;
    }
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM agents WHERE id = $1', [id]);
  }
}
