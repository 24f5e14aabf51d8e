import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { Entity, EntityDetail, GraphSummary, Relation, SourceChunk } from './graph-view.js';
import type { ListEntities, ListRelations } from './graph.dto.js';

/** Of an entity or a relation; what is more is much the same. */
const MOST_DESCRIPTIONS = 20;
const MOST_DESCRIPTIONS_IN_LIST = 3;
const MOST_CHUNKS_IN_LIST = 20;
/** Of an entity each way, and mentions of each: neighbours of a hub are chosen from these. */
const MOST_RELATIONS = 300;
const MOST_MENTIONS = 64;
/** Edges between the nodes of a neighbourhood. */
const MOST_EDGES = 500;

const ENTITY_ORDER: Record<string, string> = { name: 'key', mentions: 'rank' };
const RELATION_ORDER: Record<string, string> = { weight: 'weight' };

/** How most mentions spell it, and what they say it is. */
const NAME = `mode() WITHIN GROUP (ORDER BY m.name) AS name, mode() WITHIN GROUP (ORDER BY m.type) AS type`;
const ENTITY = (id: string) => `
  LATERAL (SELECT ${NAME}, count(*)::integer AS mentions, count(DISTINCT m.document_id)::integer AS documents
           FROM graph_entity_mentions m WHERE m.entity_id = ${id})`;

const NAMED = (id: string) => `
  LATERAL (SELECT json_build_object('id', ${id}, 'name', n.name, 'type', n.type) AS entity
           FROM (SELECT ${NAME} FROM graph_entity_mentions m WHERE m.entity_id = ${id}) n)`;

/** Descriptions, each once, those of the most mentions first. */
const DESCRIPTIONS = (mentions: string, most: number) => `
  coalesce((SELECT json_agg(d.description) FROM (
    SELECT m.description FROM ${mentions} AND m.description IS NOT NULL
    GROUP BY m.description ORDER BY count(*) DESC, m.description LIMIT ${most}) d), '[]')`;

const RELATION_FIELDS = `
  r.id, r.type, r.weight, counted.mentions, counted.documents, s.entity AS source, t.entity AS target,
  ${DESCRIPTIONS('graph_relation_mentions m WHERE m.relation_id = r.id', MOST_DESCRIPTIONS_IN_LIST)} AS descriptions,
  (SELECT json_agg(c.chunk_id) FROM (
    SELECT m.chunk_id FROM graph_relation_mentions m WHERE m.relation_id = r.id
    ORDER BY m.weight DESC, m.chunk_id LIMIT ${MOST_CHUNKS_IN_LIST}) c) AS chunk_ids`;
const RELATION_ENDS = `
  CROSS JOIN ${NAMED('r.source_id')} AS s CROSS JOIN ${NAMED('r.target_id')} AS t
  CROSS JOIN LATERAL (
    SELECT count(*)::integer AS mentions, count(DISTINCT m.document_id)::integer AS documents
    FROM graph_relation_mentions m WHERE m.relation_id = r.id) AS counted`;

/** With what the mentions that the transaction sees add up to. */
const WEIGHED_RELATIONS = `
  SELECT r.id, r.source_id, r.target_id, r.type, sum(m.weight)::float8 AS weight
  FROM graph_relations r JOIN graph_relation_mentions m ON m.relation_id = r.id`;

/** Of what documents say about their part of the graph. */
const sum = (name: string) => `coalesce(sum((graph->>'${name}')::integer), 0)::integer`;

/** Reads graphs. What is in documents that the transaction does not see is in nothing that it gives. */
@Injectable()
export class GraphReadingRepository {
  async summary(tx: Tx, kbId: string): Promise<GraphSummary> {
    const [row] = await tx.query<[GraphSummary]>(
      `SELECT (SELECT count(*)::integer FROM graph_entities WHERE kb_id = $1) AS entities,
              (SELECT count(*)::integer FROM graph_relations WHERE kb_id = $1) AS relations,
              (count(*) FILTER (WHERE graph->>'extractor' = 'names'))::integer AS "byNames",
              (count(*) FILTER (WHERE graph->>'extractor' = 'model'))::integer AS "byModel",
              (count(*) FILTER (WHERE graph IS NULL))::integer AS without,
              ${sum('fallback_chunks')} AS "fallbackChunks",
              ${sum('left_out_entities')} AS "leftOutEntities",
              ${sum('left_out_relations')} AS "leftOutRelations"
       FROM documents WHERE kb_id = $1 AND indexed_version > 0`,
      [kbId],
    );
    return row;
  }

  async listEntities(tx: Tx, kbId: string, query: ListEntities): Promise<Page<Entity>> {
    const order = orderBy(query.sort, ENTITY_ORDER);
    const found = `e.kb_id = $1 AND ($2::text IS NULL OR e.key LIKE $2)`;
    // Without a look at the mentions of all, where the names alone decide which are on the page.
    const ranked =
      query.type === undefined && order.startsWith('key')
        ? `SELECT e.id, e.key, 0 AS rank FROM graph_entities e WHERE ${found} AND $3::text IS NULL`
        : `SELECT e.id, e.key, count(*) AS rank
           FROM graph_entities e JOIN graph_entity_mentions m ON m.entity_id = e.id WHERE ${found}
           GROUP BY e.id HAVING $3::text IS NULL OR mode() WITHIN GROUP (ORDER BY m.type) = $3`;
    const search = query.search === undefined ? null : likePattern(query.search.toLowerCase());
    return pageOf(
      await tx.query(
        `WITH ranked AS MATERIALIZED (${ranked}),
              page AS (SELECT *, row_number() OVER (ORDER BY ${order}, id) AS place FROM ranked
                       ORDER BY place LIMIT $4 OFFSET $5)
         SELECT all_of_them.total, page.id, entity.name, entity.type, entity.mentions, entity.documents
         FROM (SELECT count(*)::integer AS total FROM ranked) all_of_them
         LEFT JOIN (page CROSS JOIN ${ENTITY('page.id')} AS entity) ON true
         ORDER BY page.place`,
        [kbId, search, query.type ?? null, query.page_size, (query.page - 1) * query.page_size],
      ),
    );
  }

  /** Whether the transaction sees it. */
  async has(tx: Tx, kbId: string, id: string): Promise<boolean> {
    const found: unknown[] = await tx.query('SELECT FROM graph_entities WHERE kb_id = $1 AND id = $2', [
      kbId,
      id,
    ]);
    return found.length > 0;
  }

  async findEntity(tx: Tx, kbId: string, id: string): Promise<EntityDetail | null> {
    const rows: EntityDetail[] = await tx.query(
      `SELECT e.id, entity.name, entity.type, entity.mentions, entity.documents,
              (SELECT count(DISTINCT CASE WHEN r.source_id = e.id THEN r.target_id ELSE r.source_id END)::integer
               FROM graph_relations r WHERE r.source_id = e.id OR r.target_id = e.id) AS degree,
              ${DESCRIPTIONS('graph_entity_mentions m WHERE m.entity_id = e.id', MOST_DESCRIPTIONS)} AS descriptions
       FROM graph_entities e CROSS JOIN ${ENTITY('e.id')} AS entity
       WHERE e.kb_id = $1 AND e.id = $2`,
      [kbId, id],
    );
    return rows[0] ?? null;
  }

  /** @param page from 1 */
  async sourcesOf(tx: Tx, entityId: string, page: number, pageSize: number): Promise<Page<SourceChunk>> {
    return pageOf(
      await tx.query(
        `WITH source AS (
           SELECT c.id AS chunk_id, c.document_id, d.title AS document_title, c.ordinal AS position, c.page, c.heading,
                  m.description
           FROM graph_entity_mentions m JOIN chunks c ON c.id = m.chunk_id JOIN documents d ON d.id = m.document_id
           WHERE m.entity_id = $1 ORDER BY d.created_at, d.id, c.ordinal LIMIT $2 OFFSET $3)
         SELECT (SELECT count(*)::integer FROM graph_entity_mentions WHERE entity_id = $1) AS total,
                source.chunk_id AS id, source.*
         FROM (SELECT) AS always LEFT JOIN source ON true`,
        [entityId, pageSize, (page - 1) * pageSize],
      ),
    );
  }

  async listRelations(tx: Tx, kbId: string, query: ListRelations): Promise<Page<Relation>> {
    const order = orderBy(query.sort, RELATION_ORDER);
    return pageOf(
      await tx.query(
        `WITH weighed AS MATERIALIZED (
           ${WEIGHED_RELATIONS}
           WHERE r.kb_id = $1 AND ($2::uuid IS NULL OR $2 IN (r.source_id, r.target_id)) AND ($3::text IS NULL OR r.type = $3)
           GROUP BY r.id),
         r AS (SELECT *, row_number() OVER (ORDER BY ${order}, id) AS place FROM weighed
               ORDER BY place LIMIT $4 OFFSET $5),
         page AS (SELECT r.place, ${RELATION_FIELDS} FROM r ${RELATION_ENDS})
         SELECT all_of_them.total, page.*
         FROM (SELECT count(*)::integer AS total FROM weighed) all_of_them LEFT JOIN page ON true
         ORDER BY page.place`,
        [kbId, query.entity ?? null, query.type ?? null, query.page_size, (query.page - 1) * query.page_size],
      ),
    );
  }

  /**
   * Entities one step further, those that are tied most closely first.
   *
   * @param from whose neighbours. @param known what is left out
   */
  async neighbours(
    tx: Tx,
    from: readonly string[],
    known: readonly string[],
    limit: number,
  ): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      `SELECT r.other AS id
       FROM unnest($1::uuid[]) AS entity (id)
       CROSS JOIN LATERAL (
         (SELECT id, target_id AS other FROM graph_relations WHERE source_id = entity.id LIMIT ${MOST_RELATIONS})
         UNION ALL
         (SELECT id, source_id FROM graph_relations WHERE target_id = entity.id LIMIT ${MOST_RELATIONS})) r
       CROSS JOIN LATERAL (
         SELECT sum(m.weight) AS weight
         FROM (SELECT weight FROM graph_relation_mentions WHERE relation_id = r.id LIMIT ${MOST_MENTIONS}) m) w
       WHERE r.other <> ALL ($2::uuid[])
       GROUP BY r.other ORDER BY sum(w.weight) DESC, r.other LIMIT $3`,
      [from, known, limit],
    );
    return rows.map(({ id }) => id);
  }

  /** In the order of the ids. */
  entitiesOf(tx: Tx, ids: readonly string[]): Promise<Entity[]> {
    return tx.query(
      `SELECT e.id, entity.name, entity.type, entity.mentions, entity.documents
       FROM unnest($1::uuid[]) WITH ORDINALITY AS e (id, place) CROSS JOIN ${ENTITY('e.id')} AS entity
       WHERE entity.mentions > 0 ORDER BY e.place`,
      [ids],
    );
  }

  /** The relations between entities, the heaviest first. */
  relationsAmong(tx: Tx, kbId: string, ids: readonly string[]): Promise<Relation[]> {
    return tx.query(
      `WITH r AS MATERIALIZED (
         ${WEIGHED_RELATIONS}
         WHERE r.kb_id = $1 AND r.source_id = ANY ($2::uuid[]) AND r.target_id = ANY ($2::uuid[])
         GROUP BY r.id ORDER BY weight DESC, r.id LIMIT ${MOST_EDGES})
       SELECT ${RELATION_FIELDS} FROM r ${RELATION_ENDS} ORDER BY r.weight DESC, r.id`,
      [kbId, ids],
    );
  }
}

/** Of a statement that gives the total with every row, and with one row alone where the page is empty. */
function pageOf<T extends object>(rows: Array<T & { id: string | null; total: number }>): Page<T> {
  return { items: rows.filter(({ id }) => id !== null), total: rows[0]?.total ?? 0 };
}
