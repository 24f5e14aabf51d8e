/** The queue through which this room calls the one that ingests. */
export const INGESTION_QUEUE = 'ingestion';

/** A call to ingest one document; everything about it stands in its row. */
export interface IngestionCall {
  tenantId: string;
  documentId: string;
  /** Whoever had the document before is known to be dead: do not wait for its lease to end. */
  takeOver?: boolean;
}
