import { tenantDomain } from '../../src/core/authorization/permissions.js';

/** Two tenants, and whatever has their id in it. */
export const A = '0199aaaa-0000-7000-8000-000000000001';
export const B = '0199bbbb-0000-7000-8000-000000000001';

const THINGS = [
  'user',
  'kb',
  'document',
  'chunk',
  'group',
  'invitation',
  'job',
  'token',
  'webhook',
  'delivery',
  'alert',
  'credits',
  'model',
  'agent',
  'session',
  'message',
  'evaluation',
  'entity',
  'relation',
  'unused',
] as const;

/** The id of a thing of this tenant. */
export function idOf(tenant: string, what: (typeof THINGS)[number]): string {
  return tenant.replace(/01$/, (THINGS.indexOf(what) + 2).toString(16).padStart(2, '0'));
}

/** One row of this tenant in every table that keeps any. */
export function seed(tenant: string): string {
  const [user, kb, document, chunk, group, invitation, job, token, webhook, delivery, alert, credits, model] =
    THINGS.map(what => idOf(tenant, what)) as string[];
  const [agent, session, message, evaluation, entity, relation] = (
    ['agent', 'session', 'message', 'evaluation', 'entity', 'relation'] as const
  ).map(what => idOf(tenant, what));
  const usage = `input_tokens, output_tokens, embedding_tokens, credits`;
  return `
    INSERT INTO users (id, email, display_name, password_hash) VALUES ('${user}', '${user}@example.com', 'Somebody', 'x');
    INSERT INTO tenants (id, name, display_name) VALUES ('${tenant}', 't-${tenant}', 'Tenant');
    INSERT INTO members (tenant_id, user_id) VALUES ('${tenant}', '${user}');
    INSERT INTO casbin_rule (ptype, v0, v1, v2) VALUES ('g', '${user}', 'owner', '${tenantDomain(tenant)}');
    INSERT INTO knowledge_bases (id, tenant_id, name, slug) VALUES ('${kb}', '${tenant}', 'Docs', 'docs');
    INSERT INTO documents (id, tenant_id, kb_id, title, source, mime_type, size_bytes, content_sha256)
      VALUES ('${document}', '${tenant}', '${kb}', 'A secret title', 'text', 'text/plain', 1, 'x');
    INSERT INTO chunks (id, tenant_id, kb_id, document_id, ordinal, text, start_offset, end_offset, token_count)
      VALUES ('${chunk}', '${tenant}', '${kb}', '${document}', 0, 'A secret text', 0, 13, 3),
             ('${idOf(tenant, 'unused')}', '${tenant}', '${kb}', '${document}', 1, 'A chunk without a vector', 13, 37, 5);
    INSERT INTO chunk_vectors (chunk_id, tenant_id, kb_id, document_id, length, embedding, lexical)
      VALUES ('${chunk}', '${tenant}', '${kb}', '${document}', 2, '[1,0]', '{1:1}/268435456');
    INSERT INTO document_versions (document_id, version, tenant_id, kb_id, storage_key, content_sha256, size_bytes, mime_type)
      VALUES ('${document}', 1, '${tenant}', '${kb}', '${tenant}/x', 'x', 1, 'text/plain');
    INSERT INTO ingestions (document_id, tenant_id, kb_id, version, fingerprint, embedding_model)
      VALUES ('${document}', '${tenant}', '${kb}', 1, 'x', 'x');
    INSERT INTO staged_chunks (document_id, ordinal, tenant_id, kb_id, text, start_offset, end_offset, token_count)
      VALUES ('${document}', 0, '${tenant}', '${kb}', 'A secret text', 0, 13, 3);
    INSERT INTO staged_vectors (document_id, ordinal, tenant_id, kb_id, embedding)
      VALUES ('${document}', 0, '${tenant}', '${kb}', '[1,0]');
    INSERT INTO staged_extractions (document_id, ordinal, tenant_id, kb_id, extractor, entities, relations)
      VALUES ('${document}', 0, '${tenant}', '${kb}', 'names', '[]', '[]');
    INSERT INTO staged_entities (document_id, key, tenant_id, kb_id, name, mentions)
      VALUES ('${document}', 'a secret name', '${tenant}', '${kb}', 'A secret name', 1);
    INSERT INTO graph_entities (id, tenant_id, kb_id, key) VALUES
      ('${entity}', '${tenant}', '${kb}', 'a secret name'), ('${relation}', '${tenant}', '${kb}', 'another');
    INSERT INTO graph_entity_mentions (entity_id, chunk_id, tenant_id, kb_id, document_id, restricted, name, type)
      SELECT id, '${chunk}', '${tenant}', '${kb}', '${document}', false, 'A secret name', 'name' FROM graph_entities
      WHERE kb_id = '${kb}';
    INSERT INTO graph_relations (id, tenant_id, kb_id, source_id, target_id, type)
      VALUES ('${relation}', '${tenant}', '${kb}', '${entity}', '${relation}', 'knows');
    INSERT INTO graph_relation_mentions (relation_id, chunk_id, tenant_id, kb_id, document_id, restricted, weight)
      VALUES ('${relation}', '${chunk}', '${tenant}', '${kb}', '${document}', false, 1);
    INSERT INTO ingestion_turns (tenant_id, last_turn_at) VALUES ('${tenant}', now());
    INSERT INTO kb_terms (tenant_id, kb_id, term, document_frequency) VALUES ('${tenant}', '${kb}', 1, 1);
    INSERT INTO tenant_variables (tenant_id, name, sealed) VALUES ('${tenant}', 'KEY', 'x');
    INSERT INTO invitations (id, tenant_id, email, roles, token_hash, expires_at)
      VALUES ('${invitation}', '${tenant}', 'new@example.com', '{viewer}', '${tenant}', now());
    INSERT INTO roles (tenant_id, name) VALUES ('${tenant}', 'support');
    INSERT INTO groups (id, tenant_id, name) VALUES ('${group}', '${tenant}', 'Support');
    INSERT INTO group_members (tenant_id, group_id, user_id) VALUES ('${tenant}', '${group}', '${user}');
    INSERT INTO kb_grants (id, tenant_id, kb_id, group_id, role) VALUES ('${group}', '${tenant}', '${kb}', '${group}', 'viewer');
    INSERT INTO document_readers (tenant_id, kb_id, document_id, user_id) VALUES ('${tenant}', '${kb}', '${document}', '${user}');
    INSERT INTO jobs (id, tenant_id, kind, actor) VALUES ('${job}', '${tenant}', 'nothing', '{}');
    INSERT INTO audit_chains (chain_id, sequence, hash) VALUES ('${tenant}', 1, 'x');
    INSERT INTO audit_entries (chain_id, sequence, occurred_at, actor_type, action, resource_type, details, outcome, prev_hash, hash)
      VALUES ('${tenant}', 1, now(), 'system', 'thing.done', 'thing', '{}', 'allowed', 'x', 'x');
    INSERT INTO events (id, tenant_id, type, data, occurred_at) VALUES ('${job}', '${tenant}', 'thing.done', '{}', now());
    INSERT INTO api_tokens (id, tenant_id, name, kind, scopes) VALUES ('${token}', '${tenant}', 'A token', 'live', '{query:run}');
    INSERT INTO api_token_secrets (prefix, tenant_id, token_id, hash)
      VALUES ('${tenant}', '${tenant}', '${token}', sha256('${tenant}'));
    INSERT INTO usage_events (tenant_id, id, time, kind, operation, by_platform, ${usage}, duration_us, duration_bucket, outcome)
      VALUES ('${tenant}', '${job}', now(), 'query', 'query', false, 1, 1, 1, 1, 1, 1, 'success');
    INSERT INTO usage_rollups (tenant_id, grain, at, kind, operation, calls, failures, duration_us, ${usage})
      VALUES ('${tenant}', 'day', now(), 'query', 'query', 1, 0, 1, 1, 1, 1, 1);
    INSERT INTO usage_totals (tenant_id, grain, at, kind, calls, failures, duration_us, ${usage})
      VALUES ('${tenant}', 'day', now(), 'query', 1, 0, 1, 1, 1, 1, 1);
    INSERT INTO usage_durations (tenant_id, grain, at, kind, bucket, calls) VALUES ('${tenant}', 'day', now(), 'query', 1, 1);
    INSERT INTO usage_users (tenant_id, grain, at, user_id) VALUES ('${tenant}', 'day', now(), '${user}');
    INSERT INTO usage_levels (tenant_id, day, users, kbs, documents, storage_bytes) VALUES ('${tenant}', now(), 1, 1, 1, 1);
    INSERT INTO usage_announcements (tenant_id, day) VALUES ('${tenant}', now());
    INSERT INTO credit_accounts (tenant_id, balance, granted, sequence) VALUES ('${tenant}', 5, 5, 1);
    INSERT INTO credit_grants (id, tenant_id, sequence, amount, remaining) VALUES ('${credits}', '${tenant}', 1, 5, 5);
    INSERT INTO credit_reservations (id, tenant_id, operation, estimate, prices, draws, month, expires_at)
      VALUES ('${credits}', '${tenant}', 'query', 1, '[]', '[]', now(), now());
    INSERT INTO credit_ledger (tenant_id, sequence, id, type, delta, amount, balance_after, lines, idempotency_key, created_at)
      VALUES ('${tenant}', 1, '${credits}', 'grant', 5, 5, 5, '[]', 'x', now());
    INSERT INTO credit_months (tenant_id, month, token_id) VALUES ('${tenant}', now(), '${token}');
    INSERT INTO webhooks (id, tenant_id, url, description, events, secret, is_active)
      VALUES ('${webhook}', '${tenant}', 'https://example.com', '', '{*}', 'x', false);
    INSERT INTO webhook_deliveries (id, tenant_id, webhook_id, event_id, event_type, payload)
      VALUES ('${delivery}', '${tenant}', '${webhook}', '${job}', 'thing.done', '{}');
    INSERT INTO idempotency_keys (id, tenant_id, fingerprint, status, expires_at)
      VALUES (sha256('${tenant}'), '${tenant}', 'x', 'not_replayable', now());
    INSERT INTO alerts (id, tenant_id, name, metric, threshold, threshold_type, actions, cooldown_seconds, is_active)
      VALUES ('${alert}', '${tenant}', 'Users', 'users', 1, 'absolute', '{email_admins}', 0, false);
    INSERT INTO alert_events (id, tenant_id, alert_id, kind, value, threshold, threshold_type, told, created_at)
      VALUES ('${alert}', '${tenant}', '${alert}', 'fired', 1, 1, 'absolute', true, now());
    INSERT INTO models (id, tenant_id, provider, model_type, model_name, display_name)
      VALUES ('${model}', '${tenant}', 'openai', 'chat', 'x', 'x');
    INSERT INTO platform_models (id, provider, model_type, model_name, display_name, shared_with_all)
      VALUES ('${model}', 'openai', 'chat', 'x', '${tenant}', false);
    INSERT INTO platform_model_tenants (platform_model_id, tenant_id) VALUES ('${model}', '${tenant}');
    INSERT INTO model_defaults (tenant_id, model_type, position, model_id) VALUES ('${tenant}', 'chat', 0, '${model}');
    INSERT INTO large_indexes (kb_id, tenant_id, dimensions) VALUES ('${kb}', '${tenant}', 2);
    INSERT INTO large_postings (kb_id, tenant_id, generation, term, weight, block, size, numbers)
      SELECT kb_id, tenant_id, generation, 1, 1, 0, 1, '{1}' FROM large_indexes WHERE kb_id = '${kb}';
    INSERT INTO answer_cache (tenant_id, key, kb_ids, content_versions, document_ids, answer, expires_at)
      VALUES ('${tenant}', sha256('${tenant}'), '{${kb}}', '{0}', '{${document}}', '{}', now() + interval '1 day');
    INSERT INTO agents (id, tenant_id, kb_id, name, slug, description, enabled_tools, tool_config, is_active)
      VALUES ('${agent}', '${tenant}', '${kb}', 'An agent', 'agent', '', '{}', '{}', true);
    INSERT INTO chat_sessions (id, tenant_id, kb_id, agent_id, user_id, title, metadata)
      VALUES ('${session}', '${tenant}', '${kb}', '${agent}', '${user}', 'A secret title', '{}');
    INSERT INTO chat_messages (id, tenant_id, session_id, position, role, content)
      VALUES ('${message}', '${tenant}', '${session}', 1, 'user', 'A secret question');
    INSERT INTO message_feedback (message_id, tenant_id, rating, comment) VALUES ('${message}', '${tenant}', 1, '');
    INSERT INTO evaluations (id, tenant_id, kb_id, name, started_as, user_id, job_id, question_count, question_set,
                             variants, settings)
      VALUES ('${evaluation}', '${tenant}', '${kb}', 'An evaluation', 'user', '${user}', '${job}', 1, 'x', '[]', '{}');
    INSERT INTO evaluation_questions (evaluation_id, position, tenant_id, question)
      VALUES ('${evaluation}', 0, '${tenant}', '{"question": "A secret question"}');
    INSERT INTO evaluation_results (evaluation_id, question, variant, tenant_id, outcome)
      VALUES ('${evaluation}', 0, 0, '${tenant}', '{}');`;
}
