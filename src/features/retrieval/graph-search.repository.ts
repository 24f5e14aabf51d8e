import { Injectable } from '@nestjs/common';
import { type Tx, type PreparedStatement, queryPrepared } from '../../foundation/database/transaction.js';
import { halfvecLiteral } from '../documents/halfvec.js';
import type { Subgraph } from './graph-spreading.js';
import type { QuestionNames } from './question-names.js';
import { type DocumentFilter, filterValuesOf, storable } from './retrieval.repository.js';
import { type FilterValueName, Parameters, documentFilter } from './search-statement.repository.js';

/** An entity that a question may mean. */
export interface MeantEntity {
  id: string;
  key: string;
  /** How it was found: by its whole name, by a word of it, or by its vector. */
  by: 'name' | 'word' | 'vector';
  /** The word, where it was found by one. */
  word: string | null;
  /** Of its vector and the question's, where it was found by that. */
  cosine: number | null;
}

/** A relation, as one chunk mentions it. */
export interface MentionedRelation {
  chunk_id: string;
  source_id: string;
  target_id: string;
  /** What can be compared with words: names of its ends in their keys' form, its type and what the chunk says of it. */
  text: string;
  weight: number;
}

/** Entities that a question may mean by their names, and by their vectors. */
const MOST_NAMED = 64;
const MOST_SIMILAR = 12;
/** A word that more names have stands for none of them. */
const MOST_SHARING = 8;
/** Mentions of relations in the passages that a question is about. */
const MOST_MENTIONED = 400;
/** Relations of an entity in each direction that are looked at, near the seeds and beyond; which ones is left to chance. */
const MOST_RELATIONS = { near: 60, far: 20 };
/** Entities from which it is gone on, the closest first, and relations in all. */
const MOST_FRONTIER = 40;
const MOST_EDGES = 400;
/** Mentions of an entity or a relation that are counted. */
const MOST_MENTIONS = 64;

const SEEDS: PreparedStatement = {
  name: 'graph_seeds',
  text: `
WITH named AS MATERIALIZED (
  SELECT id, key FROM graph_entities WHERE kb_id = $1 AND key = ANY ($2::text[]) LIMIT ${MOST_NAMED}
), scanned AS MATERIALIZED (
  SELECT id, key, cosine, shares
  FROM (
    SELECT id, key, string_to_array(key, ' ') && $3::text[] AS shares,
           CASE WHEN vector_dims(embedding) = (SELECT vector_dims($4::halfvec))
                THEN -(embedding <#> (SELECT $4::halfvec)) END AS cosine
    FROM graph_entities WHERE kb_id = $1
    -- A fence: without it the product is worked out twice.
    OFFSET 0
  ) AS entity
  WHERE shares OR cosine >= $5::float8
), similar_ones AS MATERIALIZED (
  SELECT id, key, cosine FROM scanned WHERE cosine >= $5::float8 ORDER BY cosine DESC, id LIMIT ${MOST_SIMILAR}
), sharing AS MATERIALIZED (
  SELECT id, key, word, count(*) OVER (PARTITION BY word) AS among
  FROM scanned, unnest(string_to_array(key, ' ')) AS word
  WHERE shares AND word = ANY ($3::text[])
)
SELECT id, key, 'name' AS by, NULL AS word, NULL::float8 AS cosine FROM named
UNION ALL
SELECT id, key, 'word', word, NULL FROM sharing WHERE among <= ${MOST_SHARING}
UNION ALL
SELECT id, key, 'vector', NULL, cosine FROM similar_ones`,
};

const MENTIONED: PreparedStatement = {
  name: 'graph_mentioned',
  text: `
SELECT mention.chunk_id, relation.source_id, relation.target_id, mention.weight,
       lower(concat_ws(' ', source.key, target.key, relation.type, mention.description)) AS text
FROM (
  SELECT relation_id, chunk_id, weight, description FROM graph_relation_mentions
  WHERE kb_id = $1 AND chunk_id = ANY ($2::uuid[])
  ORDER BY array_position($2::uuid[], chunk_id), weight DESC, relation_id LIMIT ${MOST_MENTIONED}
) AS mention
JOIN graph_relations AS relation ON relation.id = mention.relation_id
JOIN graph_entities AS source ON source.id = relation.source_id
JOIN graph_entities AS target ON target.id = relation.target_id`,
};

/** Relations of each entity of a CTE `from (id)`, each once, with their weight. */
const relationsOf = (from: string, most: number) => `
  SELECT relation.id, relation.source_id, relation.target_id, relation.type, mentions.weight
  FROM (
    SELECT DISTINCT ON (relation.id) relation.*
    FROM ${from} AS entity CROSS JOIN LATERAL (
      (SELECT id, source_id, target_id, type FROM graph_relations WHERE source_id = entity.id LIMIT ${most})
      UNION ALL
      (SELECT id, source_id, target_id, type FROM graph_relations WHERE target_id = entity.id LIMIT ${most})
    ) AS relation
  ) AS relation
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(weight), 0)::float8 AS weight
    FROM (SELECT weight FROM graph_relation_mentions WHERE relation_id = relation.id LIMIT ${MOST_MENTIONS}) AS mention
  ) AS mentions
  WHERE mentions.weight > 0`;

interface Around extends PreparedStatement {
  parameters: Array<FilterValueName | 'kbId' | 'seeds' | 'chunkIds'>;
}

/**
 * What lies around some entities: their relations, those of the closest entities that these lead to, and the chunks that
 * mention any of them. Everything is counted from the mentions that whoever asks may see; the policies see to that.
 */
function aroundStatement(filtered: boolean): Around {
  const parameters = new Parameters<Around['parameters'][number]>();
  const { $ } = parameters;
  const text = `
WITH kb AS MATERIALIZED (
  SELECT ${$('kbId')}::uuid AS id
), seeds AS MATERIALIZED (
  SELECT DISTINCT unnest(${$('seeds')}::uuid[]) AS id
), near AS MATERIALIZED (${relationsOf('seeds', MOST_RELATIONS.near)}
), frontier AS MATERIALIZED (
  SELECT id FROM (
    SELECT source_id AS id, weight FROM near UNION ALL SELECT target_id, weight FROM near
  ) AS reached
  WHERE id NOT IN (SELECT id FROM seeds)
  GROUP BY id ORDER BY sum(weight) DESC, id LIMIT ${MOST_FRONTIER}
), far AS MATERIALIZED (${relationsOf('frontier', MOST_RELATIONS.far)}
), edges AS MATERIALIZED (
  SELECT id, source_id, target_id, type, weight
  FROM (
    SELECT near.*, 0 AS hop FROM near
    UNION ALL
    SELECT far.*, 1 AS hop FROM far WHERE id NOT IN (SELECT id FROM near)
  ) AS relations
  ORDER BY hop, weight DESC, id LIMIT ${MOST_EDGES}
), reached AS MATERIALIZED (
  SELECT id FROM seeds UNION SELECT source_id FROM edges UNION SELECT target_id FROM edges
), entities AS MATERIALIZED (
  SELECT reached.id, mentions.name, mentions.type, mentions.count AS mentions, ${
    filtered ? 'coalesce(among.chunks, mentions.none)' : 'mentions.chunks'
  } AS chunks
  FROM reached CROSS JOIN LATERAL (
    SELECT count(*)::integer AS count, mode() WITHIN GROUP (ORDER BY name) AS name,
           mode() WITHIN GROUP (ORDER BY type) AS type, array_agg(chunk_id) AS chunks, '{}'::uuid[] AS none
    FROM (SELECT chunk_id, name, type FROM graph_entity_mentions WHERE entity_id = reached.id LIMIT ${MOST_MENTIONS}) AS mention
  ) AS mentions${
    filtered
      ? ` LEFT JOIN LATERAL (
    SELECT array_agg(chunk_id) AS chunks
    FROM (
      SELECT chunk_id FROM graph_entity_mentions WHERE entity_id = reached.id${documentFilter($)}
      LIMIT ${MOST_MENTIONS}
    ) AS mention
  ) AS among ON true`
      : ''
  }
  WHERE mentions.count > 0
)
SELECT coalesce((SELECT json_agg(json_build_object('id', id, 'source', source_id, 'target', target_id, 'type', type,
                                                   'weight', weight)) FROM edges), '[]') AS relations,
       coalesce((SELECT json_agg(entities) FROM entities), '[]') AS entities,
       -- Of an entity that is mentioned in more chunks than are counted, at least in those that the question is about.
       coalesce((SELECT json_agg(json_build_array(entity_id, chunk_id)) FROM graph_entity_mentions
                 WHERE chunk_id = ANY (${$('chunkIds')}::uuid[])
                   AND entity_id IN (SELECT id FROM entities WHERE mentions = ${MOST_MENTIONS})), '[]') AS more`;
  return {
    name: filtered ? 'graph_around_filtered' : 'graph_around',
    text,
    parameters: parameters.names,
  };
}

const AROUND = { all: aroundStatement(false), filtered: aroundStatement(true) };

interface AroundRow {
  relations: Subgraph['relations'];
  entities: Array<Subgraph['entities'][number] & { chunks: string[] }>;
  more: Array<[string, string]>;
}

/** The graphs of knowledge bases, as searches need them: as far as whoever asks may see them. */
@Injectable()
export class GraphSearchRepository {
  /**
   * Entities that a question may mean.
   *
   * @param vector of the question, where there is one
   * @param leastCosine of it and an entity's name
   */
  entitiesMeant(
    tx: Tx,
    kbId: string,
    { keys, words }: QuestionNames,
    vector: readonly number[] | undefined,
    leastCosine: number,
  ): Promise<MeantEntity[]> {
    const embedding = vector ? halfvecLiteral(vector) : null;
    return queryPrepared(tx, SEEDS, [kbId, keys.map(storable), words.map(storable), embedding, leastCosine]);
  }

  /** Relations that some chunks mention, those of the first chunk first. */
  relationsMentioned(tx: Tx, kbId: string, chunkIds: readonly string[]): Promise<MentionedRelation[]> {
    return queryPrepared(tx, MENTIONED, [kbId, chunkIds]);
  }

  /**
   * @param seeds ids of entities
   * @param chunkIds chunks that count where an entity is mentioned in more than are looked at
   * @param filter narrows the chunks, not the entities and relations on the way to them
   */
  async around(
    tx: Tx,
    kbId: string,
    seeds: readonly string[],
    chunkIds: readonly string[],
    filter: DocumentFilter | undefined,
  ): Promise<Subgraph> {
    const statement = filter ? AROUND.filtered : AROUND.all;
    const values = { kbId, seeds, chunkIds, ...filterValuesOf(filter ?? {}) };
    const [row] = await queryPrepared<AroundRow>(
      tx,
      statement,
      statement.parameters.map(name => values[name]),
    );
    const { relations, entities, more } = row as AroundRow;
    const byId = new Map(entities.map(entity => [entity.id, entity]));
    for (const [id, chunk] of more) {
      const chunks = byId.get(id)?.chunks;
      if (chunks && !chunks.includes(chunk)) chunks.push(chunk);
    }
    return { relations, entities };
  }
}
