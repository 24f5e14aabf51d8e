import { extname } from 'node:path';
import { fileTypeFromBuffer, supportedExtensions, supportedMimeTypes } from 'file-type';
import { isTable } from './csv-delimiter.js';
import { DocumentError } from './document-error.js';
import { jsonKind } from './json-tokens.js';
import { decodeText, unmarkedUtf16 } from './text-encoding.js';
import { DOCX, EPUB, ODT, PPTX, XLSX, ZIP, type ZipMimeType, zipType } from './zip-type.js';

export type DocumentMimeType =
  | 'text/plain'
  | 'text/markdown'
  | 'text/html'
  | 'text/csv'
  | 'text/tab-separated-values'
  | 'application/json'
  | 'application/x-ndjson'
  | 'application/pdf'
  | ZipMimeType;

/** A picture, a recording or a film: read by services elsewhere, where there are any. */
export type MediaMimeType = `${'audio' | 'image' | 'video'}/${string}`;

export interface DocumentSource {
  fileName?: string;
  /** What the client declared, e.g. the part's Content-Type; parameters are ignored. */
  declaredMimeType?: string;
}

export interface TypeDetectionOptions {
  /** Whether a service elsewhere reads such pictures, recordings or films [none does]. */
  alsoReadable?: (mimeType: MediaMimeType) => boolean;
}

/** Bytes at the start of a file that `detectType` looks at. */
export const TYPE_DETECTION_BYTES = 64 * 1024;
/** A head of so many bytes may be the beginning of something longer. */
const PERHAPS_TRUNCATED = 4096;

const LABELS: Record<DocumentMimeType, string> = {
  'text/plain': 'plain text',
  'text/markdown': 'Markdown',
  'text/html': 'HTML',
  'text/csv': 'a table (.csv)',
  'text/tab-separated-values': 'a table (.tsv)',
  'application/json': 'JSON',
  'application/x-ndjson': 'JSON Lines',
  'application/pdf': 'a PDF',
  [DOCX]: 'a Word document (.docx)',
  [PPTX]: 'a PowerPoint presentation (.pptx)',
  [XLSX]: 'an Excel workbook (.xlsx)',
  [ODT]: 'an OpenDocument text (.odt)',
  [EPUB]: 'an EPUB book',
  [ZIP]: 'a zip archive',
};
const MIME_TYPES: Record<string, DocumentMimeType> = {
  '.txt': 'text/plain',
  '.text': 'text/plain',
  '.md': 'text/markdown',
  '.markdown': 'text/markdown',
  '.html': 'text/html',
  '.htm': 'text/html',
  '.xhtml': 'text/html',
  '.csv': 'text/csv',
  '.tsv': 'text/tab-separated-values',
  '.json': 'application/json',
  '.geojson': 'application/json',
  '.jsonl': 'application/x-ndjson',
  '.ndjson': 'application/x-ndjson',
  '.pdf': 'application/pdf',
  '.docx': DOCX,
  '.docm': DOCX,
  '.dotx': DOCX,
  '.dotm': DOCX,
  '.pptx': PPTX,
  '.pptm': PPTX,
  '.potx': PPTX,
  '.potm': PPTX,
  '.ppsx': PPTX,
  '.ppsm': PPTX,
  '.xlsx': XLSX,
  '.xlsm': XLSX,
  '.xltx': XLSX,
  '.xltm': XLSX,
  '.odt': ODT,
  '.ott': ODT,
  '.epub': EPUB,
  '.zip': ZIP,
};
/** Other names of the same, as clients and files have them. */
const ALIASES: Record<string, DocumentMimeType> = {
  'text/x-markdown': 'text/markdown',
  'application/xhtml+xml': 'text/html',
  'application/csv': 'text/csv',
  'text/json': 'application/json',
  'application/jsonl': 'application/x-ndjson',
  'application/x-jsonlines': 'application/x-ndjson',
  'application/ndjson': 'application/x-ndjson',
  'application/x-zip-compressed': ZIP,
  'application/vnd.oasis.opendocument.text-template': ODT,
};
const OFFICE_VARIANTS: [RegExp, DocumentMimeType][] = [
  [/wordprocessingml\.template$|ms-word\.(?:document|template)\.macroenabled/, DOCX],
  [
    /presentationml\.(?:slideshow|template)$|ms-powerpoint\.(?:presentation|slideshow|template)\.macroenabled/,
    PPTX,
  ],
  [/spreadsheetml\.template$|ms-excel\.(?:sheet|template)\.macroenabled/, XLSX],
];
const SUPPORTED =
  'Supported are .txt, .md, .html, .pdf, .docx, .pptx, .xlsx, .csv, .tsv, .json, .jsonl, .odt, .epub and .zip of these.';
// OLE containers (MS-CFB): what Office 97-2003 writes, and what wraps password-protected Office documents.
const OLE = 'application/x-cfb';
const ENCRYPTED_PACKAGE = Buffer.from('EncryptedPackage', 'utf16le');
// Of an entry, and of the end of an archive that has none.
const ZIP_SIGNATURES = [Buffer.from('PK\x03\x04'), Buffer.from('PK\x05\x06')];
const OFFICE = new Set<string>([DOCX, PPTX, XLSX]);
const IN_ZIP = new Set<string>([DOCX, PPTX, XLSX, ODT, EPUB, ZIP]);
const TEXTUAL = new Set<string>(['application/json', 'application/x-ndjson']);
// Of file-type's list, what consists of readable characters or may be anything: text is no contradiction.
const TEXTUAL_EXTENSIONS = new Set(['xml', 'ics', 'vcf', 'vtt', 'stl', 'reg', 'asc', 'dat']);
const TEXTUAL_MAGIC = new Set([
  'application/xml',
  'application/rtf',
  'application/postscript',
  'application/eps',
]);
// Some clients say no more than that.
const VAGUE_MIME_TYPES = new Set([...TEXTUAL_MAGIC, 'application/octet-stream']);
/** Some binary format that cannot be read here, whichever. */
const OTHER_BINARY = 'application/octet-stream';

/**
 * Decides what a file is by its content; name and declared type only settle what the content leaves open
 * (Markdown or plain text) and must not contradict it.
 *
 * @param head the first bytes of the file; 4 kB suffice, more than `TYPE_DETECTION_BYTES` are not read
 * @throws DocumentError `empty`, `unsupported_type`, `type_mismatch` or `encrypted`
 */
export async function detectType(head: Uint8Array, source?: DocumentSource): Promise<DocumentMimeType>;
export async function detectType(
  head: Uint8Array,
  source: DocumentSource,
  options: TypeDetectionOptions,
): Promise<DocumentMimeType | MediaMimeType>;
export async function detectType(
  head: Uint8Array,
  source: DocumentSource = {},
  { alsoReadable }: TypeDetectionOptions = {},
): Promise<DocumentMimeType | MediaMimeType> {
  const bytes = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, TYPE_DETECTION_BYTES));
  if (bytes.length === 0) throw new DocumentError('empty', 'The file is empty.');
  const extension = extname(source.fileName ?? '').toLowerCase();
  const declared = canonical(source.declaredMimeType?.split(';', 1)[0]?.trim().toLowerCase() ?? '');

  const found = await binaryType(bytes, extension, declared);
  if (found?.mime === OLE) throw oleError(bytes, extension);
  if (found === null) {
    const text = decodeText(bytes, { truncated: true });
    if (text.trim() === '') throw new DocumentError('empty', 'The file contains no text.');
    refuseContradiction(
      'text',
      extension,
      declared,
      claim => claim.startsWith('text/') || TEXTUAL.has(claim),
    );
    return textType(text, extension, declared, bytes.length >= PERHAPS_TRUNCATED);
  }
  const { mime, ext } = found;
  if (isSupported(mime)) {
    // All of these are zip files, and some clients say no more than that.
    refuseContradiction(
      LABELS[mime],
      extension,
      declared,
      claim => claim === mime || (claim === ZIP && IN_ZIP.has(mime)),
    );
    return mime;
  }
  const label = ext === 'bin' ? 'of an unknown binary format' : `a .${ext} file`;
  refuseContradiction(label, extension, declared, claim => claim === OTHER_BINARY);
  if (!isMedia(mime)) {
    throw new DocumentError('unsupported_type', `The file is ${label}, which cannot be read. ${SUPPORTED}`);
  }
  if (alsoReadable?.(mime)) return mime;
  const needed = mime.startsWith('image/')
    ? 'pictures are read only where a service for them is set (VISION_BASE_URL or DOCLING_URL)'
    : 'recordings and films are read only where a transcription service is set (TRANSCRIPTION_BASE_URL)';
  throw new DocumentError('unsupported_type', `The file is ${label}, and ${needed}. ${SUPPORTED}`);
}

const isSupported = (mimeType: string): mimeType is DocumentMimeType => Object.hasOwn(LABELS, mimeType);

const isMedia = (mimeType: string): mimeType is MediaMimeType => /^(?:audio|image|video)\//.test(mimeType);

const canonical = (mimeType: string): string =>
  OFFICE_VARIANTS.find(([pattern]) => pattern.test(mimeType))?.[1] ??
  (Object.hasOwn(ALIASES, mimeType) ? ALIASES[mimeType]! : mimeType);

interface BinaryType {
  mime: string;
  ext: string;
}

/** The file's type by its signature; null where it is text. */
async function binaryType(bytes: Buffer, extension: string, declared: string): Promise<BinaryType | null> {
  // A damaged container ends in an exception of its parser; its signature still says what it was.
  const found = await fileTypeFromBuffer(bytes).catch(() => undefined);
  // Short signatures are ordinary words ("BM", "MZ", "ID3"), so they do not count in a readable text.
  if (looksLikeText(bytes)) {
    if (found?.mime === 'application/pdf') return found;
    if (found?.mime === 'application/xml' && isHtml(decodeText(bytes, { truncated: true }))) return null;
    return found && TEXTUAL_MAGIC.has(found.mime) ? found : null;
  }
  if (ZIP_SIGNATURES.some(signature => bytes.subarray(0, 4).equals(signature))) {
    return zippedType(bytes, extension, declared, found);
  }
  // A codec may follow.
  if (found) return { ...found, mime: found.mime.split(';', 1)[0]! };
  // Readers accept a PDF whose header stands anywhere in the first kilobyte (PDF Reference 1.7, appendix H, note 13).
  if (bytes.subarray(0, 1024).includes('%PDF-')) return { mime: 'application/pdf', ext: 'pdf' };
  return unmarkedUtf16(bytes) ? null : { mime: 'application/octet-stream', ext: 'bin' };
}

function zippedType(bytes: Buffer, extension: string, declared: string, found?: BinaryType): BinaryType {
  const { type, certain } = zipType(bytes);
  const mime = canonical(type);
  if (certain && mime !== ZIP)
    return { mime, ext: found && canonical(found.mime) === mime ? found.ext : extensionOf(mime) };
  // Programs and their packages are zip files too.
  if (found && found.mime !== ZIP && !IN_ZIP.has(canonical(found.mime))) return found;
  if (!certain) {
    // What tells them apart lies behind the head: whoever reads the file will see whether the name is right.
    const claim = [MIME_TYPES[extension], declared].find(one => one !== undefined && IN_ZIP.has(one));
    if (claim) return { mime: claim, ext: 'zip' };
  }
  return { mime, ext: 'zip' };
}

/** For a type that cannot be read: the last word of its name is what there is to call it by. */
const extensionOf = (mime: string): string =>
  /sheet\.binary/.test(mime) ? 'xlsb' : (/[\w-]+$/.exec(mime)?.[0] ?? 'zip');

function oleError(bytes: Buffer, extension: string): DocumentError {
  const named = MIME_TYPES[extension];
  if ((named && OFFICE.has(named)) || bytes.includes(ENCRYPTED_PACKAGE)) {
    return new DocumentError(
      'encrypted',
      'The file is no plain Office document: it is password-protected or in the format of Office 97-2003. ' +
        'Save it as .docx, .xlsx or .pptx without a password.',
    );
  }
  if (named) return mismatch('a Microsoft Office 97-2003 file', `is named ${extension}`);
  return new DocumentError(
    'unsupported_type',
    'The file is in the format of Microsoft Office 97-2003, which cannot be read. ' +
      `Save it as .docx, .xlsx or .pptx. ${SUPPORTED}`,
  );
}

/** @param agrees whether a claimed MIME type fits the content */
function refuseContradiction(
  actual: string,
  extension: string,
  declared: string,
  agrees: (claim: string) => boolean,
): void {
  const named = MIME_TYPES[extension] ?? (isBinaryExtension(extension.slice(1)) ? OTHER_BINARY : null);
  if (named && !agrees(named)) throw mismatch(actual, `is named ${extension}`);
  const known = isSupported(declared) || declared.startsWith('text/');
  const claim = known ? declared : isBinaryMimeType(declared) ? OTHER_BINARY : null;
  if (claim && !agrees(claim)) throw mismatch(actual, `was sent as ${declared}`);
}

const isBinaryExtension = (ext: string): boolean =>
  supportedExtensions.has(ext) && !TEXTUAL_EXTENSIONS.has(ext);

const isBinaryMimeType = (mimeType: string): boolean =>
  supportedMimeTypes.has(mimeType) && !VAGUE_MIME_TYPES.has(mimeType);

const mismatch = (actual: string, claim: string) =>
  new DocumentError('type_mismatch', `The file ${claim}, but its content is ${actual}.`);

function textType(text: string, extension: string, declared: string, truncated: boolean): DocumentMimeType {
  if (isHtml(text)) return 'text/html';
  const named = MIME_TYPES[extension];
  const claim = named ?? (extension === '' && isSupported(declared) ? declared : undefined);
  const open = extension === '' || named === 'text/plain';
  if (claim !== undefined && TEXTUAL.has(claim)) {
    // Of what cannot be JSON at all, the text is left; of what is broken, its reader says so.
    if (!/^\s*[[{]/.test(text)) return 'text/plain';
    return jsonKind(text, { truncated }) === 'jsonl' ? 'application/x-ndjson' : claim;
  }
  if (claim !== undefined && claim !== 'text/plain') return claim;
  if (open) {
    const json = jsonKind(text, { truncated });
    if (json) return json === 'json' ? 'application/json' : 'application/x-ndjson';
    if (isTable(text)) return 'text/csv';
  }
  // Only where nothing names another text format: a "# comment" of a script is no heading.
  return open && isMarkdown(text) ? 'text/markdown' : 'text/plain';
}

const isHtml = (text: string): boolean =>
  /^\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--[^]{0,2000}?-->\s*)?<(?:!doctype\s+html|html|head|body)[\s>]/i.test(
    text.slice(0, 4096),
  );

/** A heading and a second sign of Markdown; one alone is common in plain text. */
function isMarkdown(text: string): boolean {
  const headings = new Set(Array.from(text.matchAll(/^(#{1,6}) \S/gm), match => match[1]));
  return (
    headings.size > 1 ||
    (headings.size === 1 && /^```|^\|[ :|-]+\|$|\[[^\]\n]{1,200}\]\(\S|\*\*\w/m.test(text))
  );
}

function looksLikeText(bytes: Buffer): boolean {
  if (hasUtf16Mark(bytes)) return bytes.length % 2 === 0 || bytes.length >= 4096;
  // A rare stray control character does not make a binary; a NUL, or one byte in a hundred, does.
  let controls = 0;
  for (const byte of bytes) {
    if (byte === 0) return false;
    if (byte < 32 && (byte < 7 || byte > 13) && byte !== 27) controls++;
  }
  return controls * 100 <= bytes.length;
}

const hasUtf16Mark = (bytes: Uint8Array): boolean =>
  (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
