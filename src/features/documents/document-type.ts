import { extname } from 'node:path';
import { fileTypeFromBuffer, supportedExtensions, supportedMimeTypes } from 'file-type';
import { DocumentError } from './document-error.js';

export const DOCX = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document';

export type DocumentMimeType = 'text/plain' | 'text/markdown' | 'text/html' | 'application/pdf' | typeof DOCX;

export interface DocumentSource {
  fileName?: string;
  /** What the client declared, e.g. the part's Content-Type; parameters are ignored. */
  declaredMimeType?: string;
}

/** Bytes at the start of a file that `detectType` looks at. */
export const TYPE_DETECTION_BYTES = 64 * 1024;

const LABELS: Record<DocumentMimeType, string> = {
  'text/plain': 'plain text',
  'text/markdown': 'Markdown',
  'text/html': 'HTML',
  'application/pdf': 'a PDF',
  [DOCX]: 'a Word document (.docx)',
};
const MIME_TYPES: Record<string, DocumentMimeType> = {
  '.txt': 'text/plain',
  '.text': 'text/plain',
  '.md': 'text/markdown',
  '.markdown': 'text/markdown',
  '.html': 'text/html',
  '.htm': 'text/html',
  '.xhtml': 'text/html',
  '.pdf': 'application/pdf',
  '.docx': DOCX,
};
const SUPPORTED = 'Supported are .txt, .md, .html, .pdf and .docx.';
// OLE containers (MS-CFB): what Word 97-2003 writes, and what wraps a password-protected .docx.
const OLE = 'application/x-cfb';
const ENCRYPTED_PACKAGE = Buffer.from('EncryptedPackage', 'utf16le');
// Of file-type's list, what consists of readable characters or may be anything: text is no contradiction.
const TEXTUAL_EXTENSIONS = new Set(['xml', 'ics', 'vcf', 'vtt', 'stl', 'reg', 'asc', 'dat']);
const TEXTUAL_MAGIC = new Set([
  'application/xml',
  'application/rtf',
  'application/postscript',
  'application/eps',
]);
// A .docx is a zip too, and some clients say no more than that.
const VAGUE_MIME_TYPES = new Set([...TEXTUAL_MAGIC, 'application/zip', 'application/octet-stream']);
/** Some binary format that cannot be read here, whichever. */
const OTHER_BINARY = 'application/octet-stream';

/**
 * Decides what a file is by its content; name and declared type only settle what the content leaves open
 * (Markdown or plain text) and must not contradict it.
 *
 * @param head the first bytes of the file; 4 kB suffice, more than `TYPE_DETECTION_BYTES` are not read
 * @throws DocumentError `empty`, `unsupported_type`, `type_mismatch` or `encrypted`
 */
export async function detectType(head: Uint8Array, source: DocumentSource = {}): Promise<DocumentMimeType> {
  const bytes = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, TYPE_DETECTION_BYTES));
  if (bytes.length === 0) throw new DocumentError('empty', 'The file is empty.');
  const extension = extname(source.fileName ?? '').toLowerCase();
  const declared = source.declaredMimeType?.split(';', 1)[0]?.trim().toLowerCase() ?? '';

  const found = await binaryType(bytes, extension);
  if (found?.mime === OLE) throw oleError(bytes, extension);
  if (found === null) {
    const text = decodeText(bytes, { truncated: true });
    if (text.trim() === '') throw new DocumentError('empty', 'The file contains no text.');
    refuseContradiction('text', extension, declared, claim => claim.startsWith('text/'));
    return textType(text, extension, declared);
  }
  if (!isSupported(found.mime)) {
    const label = found.ext === 'bin' ? 'of an unknown binary format' : `a .${found.ext} file`;
    refuseContradiction(label, extension, declared, claim => claim === OTHER_BINARY);
    throw new DocumentError('unsupported_type', `The file is ${label}, which cannot be read. ${SUPPORTED}`);
  }
  refuseContradiction(LABELS[found.mime], extension, declared, claim => claim === found.mime);
  return found.mime;
}

const isSupported = (mimeType: string): mimeType is DocumentMimeType => mimeType in LABELS;

interface BinaryType {
  mime: string;
  ext: string;
}

/** The file's type by its signature; null where it is text. */
async function binaryType(bytes: Buffer, extension: string): Promise<BinaryType | null> {
  // A damaged container ends in an exception of its parser; its signature still says what it was.
  const found = await fileTypeFromBuffer(bytes).catch(() => undefined);
  // Short signatures are ordinary words ("BM", "MZ", "ID3"), so they do not count in a readable text.
  if (looksLikeText(bytes)) {
    if (found?.mime === 'application/pdf') return found;
    if (found?.mime === 'application/xml' && isHtml(decodeText(bytes, { truncated: true }))) return null;
    return found && TEXTUAL_MAGIC.has(found.mime) ? found : null;
  }
  // The end of a container's directory may lie behind the head.
  if (found?.mime === 'application/zip' && extension === '.docx') return { mime: DOCX, ext: 'docx' };
  if (found) return found;
  // Readers accept a PDF whose header stands anywhere in the first kilobyte (PDF Reference 1.7, appendix H, note 13).
  if (bytes.subarray(0, 1024).includes('%PDF-')) return { mime: 'application/pdf', ext: 'pdf' };
  if (bytes.subarray(0, 4).equals(Buffer.from('PK\x03\x04'))) {
    return extension === '.docx' ? { mime: DOCX, ext: 'docx' } : { mime: 'application/zip', ext: 'zip' };
  }
  return { mime: 'application/octet-stream', ext: 'bin' };
}

function oleError(bytes: Buffer, extension: string): DocumentError {
  if (extension === '.docx' || bytes.includes(ENCRYPTED_PACKAGE)) {
    return new DocumentError(
      'encrypted',
      'The file is not a plain Word document: it is password-protected or in the format of Word 97-2003. ' +
        'Save it as .docx without a password.',
    );
  }
  if (MIME_TYPES[extension]) return mismatch('a Microsoft Office 97-2003 file', `is named ${extension}`);
  return new DocumentError(
    'unsupported_type',
    `The file is in the format of Microsoft Office 97-2003, which cannot be read. ${SUPPORTED}`,
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

function textType(text: string, extension: string, declared: string): DocumentMimeType {
  if (isHtml(text)) return 'text/html';
  const named = MIME_TYPES[extension];
  if (named && named !== 'text/plain') return named;
  if (extension === '' && isSupported(declared) && declared !== 'text/plain') return declared;
  // Only where nothing names another text format: a "# comment" of a script is no heading.
  return (named || extension === '') && isMarkdown(text) ? 'text/markdown' : 'text/plain';
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

/**
 * Decodes by byte order mark, else as UTF-8 where it is valid, else by an HTML `<meta charset>`, else as
 * windows-1252, the superset of Latin-1 that the Encoding Standard prescribes for both names.
 *
 * @param options.truncated a character may be cut in two at the end
 */
export function decodeText(bytes: Uint8Array, { truncated = false } = {}): string {
  if (hasUtf16Mark(bytes)) return new TextDecoder(bytes[0] === 0xff ? 'utf-16le' : 'utf-16be').decode(bytes);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: truncated });
  } catch {
    const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 4096)).toString(
      'latin1',
    );
    const charset = /<meta[^>]{0,200}charset\s*=\s*["']?([\w-]{1,40})/i.exec(start)?.[1] ?? 'windows-1252';
    return decodeAs(charset, bytes) ?? decodeAs('windows-1252', bytes) ?? '';
  }
}

function decodeAs(label: string, bytes: Uint8Array): string | null {
  try {
    const decoder = new TextDecoder(label);
    // Node 20 and 22 take windows-1252 for ISO-8859-1 unless they decode a stream (nodejs/node#56542).
    return decoder.decode(bytes, { stream: true }) + decoder.decode();
  } catch {
    // An unknown label.
    return null;
  }
}
