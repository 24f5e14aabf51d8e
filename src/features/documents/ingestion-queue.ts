/** The queue through which this room wakes up the one that ingests. */
export const INGESTION_QUEUE = 'ingestion';

/** A call to look for documents that wait: which of them is next, and what is to be done, stands in their rows. */
export type IngestionCall = Record<string, never>;
