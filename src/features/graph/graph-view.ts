/** An entity as somebody sees it: made from the mentions that they may read. */
export interface Entity {
  id: string;
  name: string;
  type: string;
  mentions: number;
  documents: number;
}

export interface EntityDetail extends Entity {
  degree: number;
  descriptions: string[];
}

/** A chunk that mentions an entity. */
export interface SourceChunk {
  chunk_id: string;
  document_id: string;
  document_title: string;
  position: number;
  page: number | null;
  heading: string | null;
  description: string | null;
}

export interface EntityName {
  id: string;
  name: string;
  type: string;
}

export interface Relation {
  id: string;
  source: EntityName;
  target: EntityName;
  type: string;
  weight: number;
  mentions: number;
  documents: number;
  descriptions: string[];
  chunk_ids: string[];
}

/** What documents have brought into a graph, of those that somebody may read. */
export interface GraphSummary {
  entities: number;
  relations: number;
  byNames: number;
  byModel: number;
  without: number;
  fallbackChunks: number;
  leftOutEntities: number;
  leftOutRelations: number;
}
