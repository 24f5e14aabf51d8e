import type { ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { markdownHeading, markdownTable, oneLine } from './markdown-blocks.js';
import { OpcPackage, relationshipId } from './opc-package.js';
import type { XmlHandler } from './xml-events.js';

/** Placeholders of what is the same on every slide. */
const FURNITURE = new Set(['sldNum', 'dt', 'ftr', 'hdr', 'sldImg']);
const TITLES = new Set(['title', 'ctrTitle']);

/** A presentation (ECMA-376, part 1, 19): a page a slide, its title as heading, its notes below. */
export async function* readPptx(file: SourceFile): AsyncGenerator<TextPart, ReadSummary> {
  const show = await OpcPackage.open(file.path, 'PowerPoint presentation');
  try {
    const slides = await slideParts(show);
    for (const [index, part] of slides.entries()) {
      yield { page: index + 1, text: await readSlide(show, part), format: 'markdown' };
    }
    return { title: await show.title() };
  } finally {
    show.close();
  }
}

/** In the order in which they are shown, which is not that of their names. */
async function slideParts(show: OpcPackage): Promise<string[]> {
  const main = await show.mainPart();
  const parts = new Map((await show.relationships(main)).map(({ id, target }) => [id, target]));
  const slides: string[] = [];
  await show.read(main, {
    open: (name, attributes) => {
      if (name !== 'sldId') return;
      const part = parts.get(relationshipId(attributes) ?? '');
      if (part) slides.push(part);
    },
  });
  return slides;
}

async function readSlide(show: OpcPackage, part: string): Promise<string> {
  const slide = new ShapeTexts();
  await show.read(part, slide);
  const blocks = [];
  if (slide.title !== '') blocks.push(markdownHeading(1, slide.title));
  blocks.push(...slide.blocks);
  for (const { type, target } of await show.relationships(part)) {
    if ((type !== 'diagramData' && type !== 'notesSlide') || !show.has(target)) continue;
    const other = new ShapeTexts();
    await show.read(target, other);
    const text = other.blocks.join('\n\n');
    if (text !== '') blocks.push(type === 'notesSlide' ? `Speaker notes: ${text}` : text);
  }
  return blocks.join('\n\n');
}

/** The texts of shapes and the rows of tables, in the order of the slide (ECMA-376, part 1, 21.1). */
class ShapeTexts implements XmlHandler {
  title = '';
  readonly blocks: string[] = [];
  private placeholder: string | null = null;
  private paragraphs: string[] = [];
  private paragraph = '';
  private level = 0;
  private rows: string[][] | null = null;
  private withinText = false;
  /** What a picture shows, for those who do not see it. */
  private picture = '';
  /** How deep within what is shown only where the better alternative cannot be. */
  private fallback = 0;

  open(name: string, attributes: Record<string, string>): void {
    if (name === 'Fallback') this.fallback++;
    if (this.fallback > 0) return;
    if (name === 'sp') this.placeholder = null;
    else if (name === 'ph') this.placeholder = attributes['type'] ?? 'obj';
    else if (name === 'cNvPr' && attributes['descr']) this.picture = attributes['descr'];
    else if (name === 'pic') this.picture = '';
    else if (name === 'tbl') this.rows = [];
    else if (name === 'tr') this.rows?.push([]);
    else if (name === 'tc') this.paragraphs = [];
    else if (name === 'p') [this.paragraph, this.level] = ['', 0];
    else if (name === 'pPr') this.level = Number(attributes['lvl'] ?? 0) || 0;
    else if (name === 'br') this.paragraph += '\n';
    else if (name === 't') this.withinText = true;
  }

  close(name: string): void {
    if (name === 'Fallback') this.fallback--;
    if (this.fallback > 0) return;
    if (name === 't') this.withinText = false;
    else if (name === 'p') this.endParagraph();
    else if (name === 'tc') this.rows?.at(-1)?.push(this.takeParagraphs(' '));
    else if (name === 'tbl') this.endTable();
    else if (name === 'sp') this.endShape();
    // A point of a diagram; those of outlines hold no text.
    else if (name === 'pt' && this.paragraphs.length > 0) this.blocks.push(this.takeParagraphs('\n'));
    else if (name === 'pic' && this.picture !== '') this.blocks.push(oneLine(this.picture));
  }

  text(text: string): void {
    if (this.withinText && this.fallback === 0) this.paragraph += text;
  }

  private endParagraph(): void {
    const text = this.paragraph.trim();
    if (text === '') return;
    const indent = Math.min(this.level, 8);
    this.paragraphs.push(indent > 0 && !this.rows ? `${'  '.repeat(indent - 1)}- ${oneLine(text)}` : text);
  }

  private endShape(): void {
    const { placeholder } = this;
    this.placeholder = null;
    const text = this.takeParagraphs('\n');
    if (text === '' || FURNITURE.has(placeholder ?? '')) return;
    if (TITLES.has(placeholder ?? '') && this.title === '') this.title = oneLine(text);
    else this.blocks.push(text);
  }

  private endTable(): void {
    const table = markdownTable(this.rows ?? []);
    this.rows = null;
    if (table !== '') this.blocks.push(table);
  }

  private takeParagraphs(separator: string): string {
    const text = this.paragraphs.join(separator);
    this.paragraphs = [];
    return text;
  }
}
