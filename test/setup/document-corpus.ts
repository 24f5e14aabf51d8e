import JSZip from 'jszip';

/** Parts by name; a name with a final `/` is a folder. */
export type ZipParts = Record<string, string | Uint8Array>;

/** A zip file whose entries stand in the order that is given. `mimetype` is stored, as ODF and EPUB want it. */
export async function zipOf(parts: ZipParts): Promise<Buffer> {
  const zip = new JSZip();
  for (const [name, content] of Object.entries(parts)) {
    if (name.endsWith('/')) zip.folder(name);
    else
      zip.file(name, content, {
        createFolders: false,
        ...(name === 'mimetype' ? { compression: 'STORE' } : {}),
      });
  }
  return zip.generateAsync({ type: 'nodebuffer', compression: 'DEFLATE' });
}

const XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n';
const OFFICE = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships';
const PACKAGE = 'http://schemas.openxmlformats.org/package/2006/relationships';

/** Relationships of Office Open XML (ECMA-376, part 2, 9): `[id, type, target]`. */
export const relationshipsOf = (...entries: [id: string, type: string, target: string][]): string =>
  `${XML}<Relationships xmlns="${PACKAGE}">${entries
    .map(([id, type, target]) => `<Relationship Id="${id}" Type="${OFFICE}/${type}" Target="${target}"/>`)
    .join('')}</Relationships>`;

const contentTypes = (part: string, type: string): string =>
  `${XML}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">` +
  '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>' +
  '<Default Extension="xml" ContentType="application/xml"/>' +
  `<Override PartName="/${part}" ContentType="application/vnd.openxmlformats-officedocument.${type}.main+xml"/></Types>`;

const coreProperties = (title: string): string =>
  `${XML}<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" ` +
  `xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>${title}</dc:title><dc:creator>Nobody</dc:creator></cp:coreProperties>`;

export interface SheetParts {
  name: string;
  /** What stands within `<worksheet>`. */
  xml: string;
}

/** The parts of an Excel workbook (ECMA-376, part 1, 18), to be changed before they are packed. */
export function xlsxParts(
  sheets: SheetParts[],
  { strings = [] as string[], title = '', numberFormats = '', cellFormats = '', workbook = '' } = {},
): ZipParts {
  const main = 'http://schemas.openxmlformats.org/spreadsheetml/2006/main';
  return {
    '[Content_Types].xml': contentTypes('xl/workbook.xml', 'spreadsheetml.sheet'),
    '_rels/.rels': relationshipsOf(['rId1', 'officeDocument', 'xl/workbook.xml']),
    'docProps/core.xml': coreProperties(title),
    'xl/workbook.xml': `${XML}<workbook xmlns="${main}" xmlns:r="${OFFICE}">${workbook}<sheets>${sheets
      .map(({ name }, index) => `<sheet name="${name}" sheetId="${index + 1}" r:id="rId${index + 1}"/>`)
      .join('')}</sheets></workbook>`,
    'xl/_rels/workbook.xml.rels': relationshipsOf(
      ...sheets.map(
        (_, index) =>
          [`rId${index + 1}`, 'worksheet', `worksheets/sheet${index + 1}.xml`] as [string, string, string],
      ),
      ['rId98', 'styles', 'styles.xml'],
      ['rId99', 'sharedStrings', '/xl/sharedStrings.xml'],
    ),
    'xl/styles.xml':
      `${XML}<styleSheet xmlns="${main}"><numFmts>${numberFormats}</numFmts>` +
      `<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf numFmtId="0"/>${cellFormats}</cellXfs></styleSheet>`,
    'xl/sharedStrings.xml': `${XML}<sst xmlns="${main}">${strings
      .map(text => (text.startsWith('<') ? `<si>${text}</si>` : `<si><t>${text}</t></si>`))
      .join('')}</sst>`,
    ...Object.fromEntries(
      sheets.map(({ xml }, index) => [
        `xl/worksheets/sheet${index + 1}.xml`,
        `${XML}<worksheet xmlns="${main}">${xml}</worksheet>`,
      ]),
    ),
  };
}

/** Rows of cells that hold their text in themselves. */
export const sheetRows = (rows: string[][]): string =>
  `<sheetData>${rows
    .map(cells => `<row>${cells.map(cell => `<c t="inlineStr"><is><t>${cell}</t></is></c>`).join('')}</row>`)
    .join('')}</sheetData>`;

export interface SlideParts {
  /** Shapes: the tree of `<p:spTree>`. */
  shapes: string;
  notes?: string;
}

const DRAWING =
  'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" ' +
  `xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:r="${OFFICE}" ` +
  'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"';

export const slideParagraph = (text: string, level = 0): string =>
  `<a:p>${level > 0 ? `<a:pPr lvl="${level}"/>` : ''}<a:r><a:rPr lang="en"/><a:t>${text}</a:t></a:r></a:p>`;

export const slideShape = (paragraphs: string, placeholder = ''): string =>
  `<p:sp><p:nvSpPr><p:cNvPr id="2" name="x"/><p:nvPr>${placeholder && `<p:ph type="${placeholder}"/>`}</p:nvPr></p:nvSpPr>` +
  `<p:spPr><a:custGeom><a:pathLst><a:path><a:moveTo><a:pt x="0" y="0"/></a:moveTo></a:path></a:pathLst></a:custGeom></p:spPr>` +
  `<p:txBody><a:bodyPr/>${paragraphs}</p:txBody></p:sp>`;

/**
 * The parts of a presentation (ECMA-376, part 1, 19). Its slides are shown in the order that is given, which is
 * the opposite of that of their names.
 */
export function pptxParts(slides: SlideParts[], title = ''): ZipParts {
  const nameOf = (index: number) => `slide${slides.length - index}.xml`;
  const parts: ZipParts = {
    '[Content_Types].xml': contentTypes('ppt/presentation.xml', 'presentationml.presentation'),
    '_rels/.rels': relationshipsOf(['rId1', 'officeDocument', '/ppt/presentation.xml']),
    'docProps/core.xml': coreProperties(title),
    'ppt/presentation.xml': `${XML}<p:presentation ${DRAWING}><p:sldIdLst>${slides
      .map((_, index) => `<p:sldId id="${256 + index}" r:id="rId${index + 1}"/>`)
      .join('')}</p:sldIdLst></p:presentation>`,
    'ppt/_rels/presentation.xml.rels': relationshipsOf(
      ...slides.map(
        (_, index) => [`rId${index + 1}`, 'slide', `slides/${nameOf(index)}`] as [string, string, string],
      ),
    ),
  };
  for (const [index, { shapes, notes }] of slides.entries()) {
    parts[`ppt/slides/${nameOf(index)}`] =
      `${XML}<p:sld ${DRAWING}><p:cSld><p:spTree>${shapes}</p:spTree></p:cSld></p:sld>`;
    if (notes === undefined) continue;
    parts[`ppt/slides/_rels/${nameOf(index)}.rels`] = relationshipsOf([
      'rId1',
      'notesSlide',
      `../notesSlides/notes${index}.xml`,
    ]);
    parts[`ppt/notesSlides/notes${index}.xml`] =
      `${XML}<p:notes ${DRAWING}><p:cSld><p:spTree>${slideShape(slideParagraph(notes), 'body')}` +
      `${slideShape(slideParagraph('7'), 'sldNum')}</p:spTree></p:cSld></p:notes>`;
  }
  return parts;
}

/** The parts of an OpenDocument text (ODF 1.3); `body` stands within `<office:text>`. */
export function odtParts(body: string, { title = '', styles = '' } = {}): ZipParts {
  const spaces = ['office', 'text', 'table', 'style', 'draw', 'svg', 'meta']
    .map(name => `xmlns:${name}="urn:oasis:names:tc:opendocument:xmlns:${name}:1.0"`)
    .join(' ');
  return {
    mimetype: 'application/vnd.oasis.opendocument.text',
    'content.xml':
      `${XML}<office:document-content ${spaces}><office:automatic-styles>${styles}</office:automatic-styles>` +
      `<office:body><office:text>${body}</office:text></office:body></office:document-content>`,
    'meta.xml':
      `${XML}<office:document-meta ${spaces} xmlns:dc="http://purl.org/dc/elements/1.1/">` +
      `<office:meta><dc:title>${title}</dc:title></office:meta></office:document-meta>`,
    'META-INF/manifest.xml':
      `${XML}<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">` +
      '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>',
  };
}

/** The parts of a book (EPUB 3), its chapters `[name, XHTML body]` in reading order. */
export function epubParts(
  chapters: [name: string, body: string][],
  { title = '', author = '', contents = '' } = {},
): ZipParts {
  const xhtml = (body: string) =>
    `${XML}<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops">` +
    `<head><title/></head><body>${body}</body></html>`;
  const names = chapters.map(([name]) => name);
  return {
    mimetype: 'application/epub+zip',
    'META-INF/container.xml':
      `${XML}<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>` +
      '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
    'OEBPS/book.opf':
      `${XML}<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata ` +
      'xmlns:dc="http://purl.org/dc/elements/1.1/">' +
      `<dc:title>${title}</dc:title><dc:creator>${author}</dc:creator></metadata><manifest>` +
      '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>' +
      // In another order than they are read.
      names
        .map((name, index) => `<item id="c${index}" href="text/${name}" media-type="application/xhtml+xml"/>`)
        .toReversed()
        .join('') +
      `</manifest><spine><itemref idref="nav"/>${names.map((_, index) => `<itemref idref="c${index}"/>`).join('')}` +
      '</spine></package>',
    'OEBPS/nav.xhtml': xhtml(`<nav epub:type="toc"><ol>${contents}</ol></nav>`),
    ...Object.fromEntries(
      chapters.map(([name, body]) => [`OEBPS/text/${decodeURIComponent(name)}`, xhtml(body)]),
    ),
  };
}
