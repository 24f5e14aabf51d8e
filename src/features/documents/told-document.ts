import type { Document } from './document.entity.js';

/** The title as the audit and events tell it: of a restricted document none, for their readers need not be the document's. */
export const toldTitle = ({ title, restricted }: Pick<Document, 'title' | 'restricted'>): string | null =>
  restricted ? null : title;

/** What the audit says of a document beside what was done to it. */
export function toldDetails(
  document: Pick<Document, 'kbId' | 'title' | 'restricted'>,
  details: Record<string, unknown>,
): Record<string, unknown> {
  return {
    kb_id: document.kbId,
    title: toldTitle(document),
    ...details,
    // An address says as much as the title that is made of it.
    ...(document.restricted && 'source_url' in details && { source_url: null }),
  };
}
