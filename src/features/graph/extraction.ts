/** Something that a text names. */
export interface ExtractedEntity {
  /** In the form in which equal names are equal: {@link entityKey}. */
  key: string;
  /** As it is spelled there. */
  name: string;
  type: string;
  /** What is said of it there; null where nobody has summed it up. */
  description: string | null;
}

/** How two of the entities of a text belong together there. */
export interface ExtractedRelation {
  /** Keys of entities of the same extraction; of what has no direction, in their order. */
  source: string;
  target: string;
  type: string;
  description: string | null;
  /** How much the text says for it, more than 0 and 1 at most. */
  weight: number;
}

/** What a text names, each once. */
export interface Extraction {
  entities: ExtractedEntity[];
  relations: ExtractedRelation[];
}

/** Of one chunk; what is more is left out, and of a chunk that names so much it is little loss. */
export const MOST_ENTITIES = 32;
export const MOST_RELATIONS = 48;
/** In UTF-16 units. */
export const LONGEST_TYPE = 60;
export const LONGEST_DESCRIPTION = 600;
