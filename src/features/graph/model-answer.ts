import { z } from 'zod';
import { entityKey, tidyName } from './entity-key.js';
import {
  type ExtractedEntity,
  type ExtractedRelation,
  type Extraction,
  LONGEST_DESCRIPTION,
  LONGEST_TYPE,
  MOST_ENTITIES,
  MOST_RELATIONS,
} from './extraction.js';

/** Of relations whose strength a model does not say, on its scale of 1 to 10. */
const USUAL_STRENGTH = 5;
/** The type of what a model names in a relation alone, or without one. */
const UNTYPED = 'thing';
/** The type of relations without one. */
const RELATED = 'related to';

const text = z.string().catch('');
const answerSchema = z.object({ entities: z.array(z.unknown()), relations: z.array(z.unknown()).catch([]) });
const entitySchema = z.object({ name: z.string(), type: text, description: text });
const relationSchema = z.object({
  source: z.string(),
  target: z.string(),
  type: text,
  description: text,
  strength: z.coerce.number().min(0).max(10).catch(USUAL_STRENGTH),
});

/**
 * Reads what a model wrote that was asked for entities and relations. Single ones that are none are left out, and so is what
 * goes past the limits.
 *
 * @returns null where it is not of the form that was asked for
 */
export function readModelAnswer(reply: string): Extraction | null {
  // Models like to put JSON into a block of code, or a sentence in front of it.
  const answer = answerSchema.safeParse(parse(reply.slice(reply.indexOf('{'), reply.lastIndexOf('}') + 1)));
  if (!answer.success) return null;
  const entities = new Map<string, ExtractedEntity>();
  const add = (given: string, type: string, description: string): string | null => {
    const name = tidyName(given);
    const key = entityKey(name);
    if (key === '') return null;
    if (!entities.has(key)) {
      if (entities.size >= MOST_ENTITIES) return null;
      entities.set(key, { key, name, type: typeOf(type, UNTYPED), description: descriptionOf(description) });
    }
    return key;
  };
  for (const item of answer.data.entities) {
    const entity = entitySchema.safeParse(item);
    if (entity.success) add(entity.data.name, entity.data.type, entity.data.description);
  }
  const relations = new Map<string, ExtractedRelation>();
  for (const item of answer.data.relations) {
    const relation = relationSchema.safeParse(item);
    if (!relation.success || relations.size >= MOST_RELATIONS) continue;
    const source = add(relation.data.source, '', '');
    const target = add(relation.data.target, '', '');
    if (source === null || target === null || source === target) continue;
    const type = typeOf(relation.data.type, RELATED);
    const weight = Math.max(relation.data.strength, 1) / 10;
    const description = descriptionOf(relation.data.description);
    const id = JSON.stringify([source, target, type]);
    if (!relations.has(id)) relations.set(id, { source, target, type, description, weight });
  }
  // Something was named, and none of it can be read.
  if (entities.size === 0 && answer.data.entities.length > 0) return null;
  return { entities: [...entities.values()], relations: [...relations.values()] };
}

const typeOf = (given: string, otherwise: string): string =>
  tidyName(given).replaceAll('_', ' ').toLowerCase().slice(0, LONGEST_TYPE).toWellFormed().trim() ||
  otherwise;

const descriptionOf = (given: string): string | null =>
  given
    .slice(0, LONGEST_DESCRIPTION)
    .toWellFormed()
    .replaceAll(/\p{Cc}+/gu, ' ')
    .trim() || null;

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
