const OOXML = 'application/vnd.openxmlformats-officedocument';

/** The types that the ending of a file's name stands for. */
const BY_ENDING = new Map<string, readonly string[]>(
  Object.entries({
    txt: ['text/plain'],
    text: ['text/plain'],
    md: ['text/markdown'],
    markdown: ['text/markdown'],
    html: ['text/html'],
    htm: ['text/html'],
    pdf: ['application/pdf'],
    docx: [`${OOXML}.wordprocessingml.document`],
    pptx: [`${OOXML}.presentationml.presentation`],
    xlsx: [`${OOXML}.spreadsheetml.sheet`],
    odt: ['application/vnd.oasis.opendocument.text'],
    csv: ['text/csv'],
    json: ['application/json'],
    jsonl: ['application/jsonl', 'application/x-ndjson', 'application/x-jsonlines'],
    epub: ['application/epub+zip'],
    zip: ['application/zip'],
    mp3: ['audio/mpeg'],
    wav: ['audio/wav', 'audio/vnd.wave', 'audio/x-wav'],
    mp4: ['video/mp4'],
    png: ['image/png'],
    jpg: ['image/jpeg'],
    jpeg: ['image/jpeg'],
    audio: ['audio/*'],
    video: ['video/*'],
    image: ['image/*'],
  }),
);

/**
 * Whether a name in a tenant's settings stands for a type of documents.
 *
 * @param name the ending of file names (`pdf`, `.pdf`), a MIME type (`text/markdown`) or a family of those (`text/*`)
 */
export function isNamedBy(name: string, mimeType: string): boolean {
  const wanted = name.trim().toLowerCase().replace(/^\./, '');
  // An ending that is not in the list may be the type's own name: `ogg` of audio/ogg.
  const types = wanted.includes('/') ? [wanted] : (BY_ENDING.get(wanted) ?? [`*/${wanted}`, `*/x-${wanted}`]);
  return types.some(type => matches(type, mimeType));
}

function matches(pattern: string, mimeType: string): boolean {
  const [family, type] = pattern.split('/');
  const [actualFamily, actualType] = mimeType.split('/');
  return (family === '*' || family === actualFamily) && (type === '*' || type === actualType);
}
