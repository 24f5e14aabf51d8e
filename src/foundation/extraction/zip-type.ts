export const DOCX = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document';
export const PPTX = 'application/vnd.openxmlformats-officedocument.presentationml.presentation';
export const XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet';
export const ODT = 'application/vnd.oasis.opendocument.text';
export const EPUB = 'application/epub+zip';
export const ZIP = 'application/zip';

export type ZipMimeType = typeof DOCX | typeof PPTX | typeof XLSX | typeof ODT | typeof EPUB | typeof ZIP;

const LOCAL_HEADER = Buffer.from('PK\x03\x04');
const LOCAL_HEADER_BYTES = 30;
const MAX_MEDIA_TYPE_LENGTH = 100;

interface LocalEntry {
  name: string;
  /** Where its packed bytes begin. */
  start: number;
  stored: boolean;
}

/** Excel's binary workbooks are Office Open XML in name only. */
const XLSB = 'application/vnd.ms-excel.sheet.binary.macroenabled.12';

export interface ZipType {
  /** A media type, perhaps of something that nobody reads here. */
  type: string;
  /** Whether nothing that lies further back could change it. */
  certain: boolean;
}

/**
 * What the entries at the start of a zip file make of it. `mimetype` is the first entry of OpenDocument and
 * EPUB, unpacked; Office Open XML has `[Content_Types].xml`, at the start or at the end.
 */
export function zipType(head: Buffer): ZipType {
  const names = new Set<string>();
  for (const { name, start, stored } of localEntries(head)) {
    if (name === 'mimetype' && stored) {
      const said = head.toString('latin1', start, start + MAX_MEDIA_TYPE_LENGTH);
      // What follows it is the header of the next entry, which begins with PK.
      const type = /^([a-z]+\/[\w.+-]+?)(?:\s|PK|$)/.exec(said)?.[1];
      if (type) return { type, certain: true };
    }
    names.add(name);
  }
  if (names.has('META-INF/container.xml')) return { type: EPUB, certain: true };
  if (names.has('content.xml') && names.has('META-INF/manifest.xml')) return { type: ODT, certain: false };
  const folders = new Set(Array.from(names, name => (name.includes('/') ? name.split('/', 1)[0]! : '')));
  const opc = names.has('[Content_Types].xml') || names.has('_rels/.rels');
  if (names.has('xl/workbook.bin')) return { type: XLSB, certain: true };
  for (const [folder, type] of [['word', DOCX] as const, ['ppt', PPTX] as const, ['xl', XLSX] as const]) {
    if (folders.has(folder)) return { type, certain: opc };
  }
  const office = opc || folders.has('docProps') || folders.has('customXml');
  return { type: ZIP, certain: names.size > 0 && !office };
}

function* localEntries(head: Buffer): Generator<LocalEntry> {
  for (let at = 0; at + LOCAL_HEADER_BYTES <= head.length;) {
    if (!head.subarray(at, at + 4).equals(LOCAL_HEADER)) return;
    const nameStart = at + LOCAL_HEADER_BYTES;
    const start = nameStart + head.readUInt16LE(at + 26) + head.readUInt16LE(at + 28);
    const name = head.toString('utf8', nameStart, nameStart + head.readUInt16LE(at + 26));
    yield { name: name.replaceAll('\\', '/'), start, stored: head.readUInt16LE(at + 8) === 0 };
    const described = (head.readUInt16LE(at + 6) & 0x08) !== 0;
    const packed = head.readUInt32LE(at + 18);
    // A size that was not known when the header was written stands behind the data.
    const next = described && packed === 0 ? head.indexOf(LOCAL_HEADER, start) : start + packed;
    if (next === -1) return;
    at = next;
  }
}
