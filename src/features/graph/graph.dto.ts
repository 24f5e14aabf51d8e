import { z } from 'zod';
import { type Page, listQuery, pageQuery, pageSchema } from '../../foundation/http/pagination.js';
import { LONGEST_TYPE } from './extraction.js';
import type { Entity, EntityDetail, Relation, SourceChunk } from './graph-view.js';

const typeFilter = z
  .string()
  .trim()
  .toLowerCase()
  .min(1)
  .max(LONGEST_TYPE)
  .optional()
  .describe('As it stands in an answer');

export const listEntitiesQuery = listQuery(['name', 'mentions'], { type: typeFilter });

export const listRelationsQuery = z.strictObject({
  ...pageQuery.shape,
  sort: z.enum(['-weight', 'weight']).default('-weight'),
  entity: z.uuid().optional().describe('One of its ends'),
  type: typeFilter,
});

export const entityQuery = pageQuery;

/** Nodes of a neighbourhood at most: more than that nobody reads, or draws. */
const MOST_NODES = 200;

export const neighboursQuery = z.strictObject({
  tenant: pageQuery.shape.tenant,
  depth: z.coerce.number().int().min(1).max(3).default(1).describe('Steps from the entity [1]'),
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(MOST_NODES)
    .default(50)
    .describe('Neighbours at most, those that are tied most closely first [50]'),
});

export type ListEntities = z.infer<typeof listEntitiesQuery>;
export type ListRelations = z.infer<typeof listRelationsQuery>;
export type PageOfSources = z.infer<typeof entityQuery>;
export type Neighbours = z.infer<typeof neighboursQuery>;

const entityNameShape = {
  id: z.uuid(),
  name: z.string().describe('As most mentions spell it').meta({ example: 'Marie Curie' }),
  type: z.string().describe('What most mentions say it is').meta({ example: 'person' }),
};

export const entitySchema = z
  .object({
    ...entityNameShape,
    mention_count: z
      .int()
      .describe('Chunks that mention it, of those that one may read, like everything here'),
    document_count: z.int(),
  })
  .meta({ id: 'GraphEntity' });

export const entityPageSchema = pageSchema(entitySchema, 'GraphEntityPage');

const sourceChunkSchema = z
  .object({
    chunk_id: z.uuid(),
    document_id: z.uuid(),
    document_title: z.string(),
    position: z.int().describe('Of the chunk in its document, from 0'),
    page: z.int().nullable(),
    heading: z.string().nullable(),
    description: z.string().nullable().describe('What this chunk says of it'),
  })
  .meta({ id: 'GraphSource' });

export const entityDetailSchema = z
  .object({
    ...entitySchema.shape,
    degree: z.int().describe('Entities that it has a relation with'),
    descriptions: z
      .array(z.string())
      .describe('What chunks say of it; none where names alone made the graph'),
    sources: pageSchema(sourceChunkSchema, 'GraphSourcePage').describe('The chunks that mention it'),
  })
  .meta({ id: 'GraphEntityDetail' });

export const relationSchema = z
  .object({
    id: z.uuid(),
    source: z.object(entityNameShape),
    target: z.object(entityNameShape),
    type: z
      .string()
      .describe('`co-occurs with` has no direction, and says that both stand together')
      .meta({ example: 'discovered' }),
    weight: z.number().describe('How much its mentions say for it, added up; each is 1 at most'),
    mention_count: z.int(),
    document_count: z.int(),
    descriptions: z.array(z.string()),
    chunk_ids: z
      .array(z.uuid())
      .describe('Chunks that mention it, 20 at most, those that say most for it first'),
  })
  .meta({ id: 'GraphRelation' });

export const relationPageSchema = pageSchema(relationSchema, 'GraphRelationPage');

export const neighbourhoodSchema = z
  .object({
    nodes: z.array(entitySchema).describe('The entity itself, then its neighbours, step by step'),
    edges: z
      .array(relationSchema)
      .describe('The relations between the nodes, 500 at most, the heaviest first'),
  })
  .meta({ id: 'GraphNeighbourhood' });

export const graphSummarySchema = z
  .object({
    mode: z.enum(['off', 'names', 'model']).describe('What documents are ingested with now'),
    entity_count: z.int(),
    relation_count: z.int(),
    documents: z
      .object({
        names: z.int().describe('By names and where they stand together'),
        model: z.int().describe('By a chat model'),
        none: z.int().describe('Not at all: they were ingested while the graph was off'),
      })
      .describe('Searchable documents by what their part of the graph was made by'),
    fallback_chunks: z.int().describe('Read by names, because the model gave no answer that can be used'),
    left_out_entities: z.int().describe('For which the limit left no room'),
    left_out_relations: z.int(),
  })
  .meta({ id: 'GraphSummary' });

export const toEntity = ({ id, name, type, mentions, documents }: Entity): z.infer<typeof entitySchema> => ({
  id,
  name,
  type,
  mention_count: mentions,
  document_count: documents,
});

export function toEntityDetail(
  entity: EntityDetail,
  sources: Page<SourceChunk>,
  query: PageOfSources,
): z.infer<typeof entityDetailSchema> {
  const items = sources.items.map(source => ({
    chunk_id: source.chunk_id,
    document_id: source.document_id,
    document_title: source.document_title,
    position: source.position,
    page: source.page,
    heading: source.heading,
    description: source.description,
  }));
  return {
    ...toEntity(entity),
    degree: entity.degree,
    descriptions: entity.descriptions,
    sources: { items, total: sources.total, page: query.page, page_size: query.page_size },
  };
}

export const toRelation = (relation: Relation): z.infer<typeof relationSchema> => ({
  id: relation.id,
  source: relation.source,
  target: relation.target,
  type: relation.type,
  weight: Math.round(relation.weight * 100) / 100,
  mention_count: relation.mentions,
  document_count: relation.documents,
  descriptions: relation.descriptions,
  chunk_ids: relation.chunk_ids,
});
