import { posix } from 'node:path';
import { DocumentError } from './document-error.js';
import { prefixedAttribute, readXml, type XmlHandler, xmlEvents } from './xml-events.js';
import type { StoredFile } from './stored-zip.js';
import { ZipContainer, type ZipEntry, type ZipLimits } from './zip-container.js';

export interface Relationship {
  id: string;
  /** The last word of its type's address, which differs between the editions of the standard: `slide`. */
  type: string;
  /** The part that it leads to. */
  target: string;
}

/** An Office Open XML file: parts in a zip that refer to one another (ECMA-376, part 2). */
export class OpcPackage {
  private constructor(
    private readonly zip: ZipContainer,
    private readonly what: string,
  ) {}

  /**
   * @param what the kind of file, for the sentences of errors: "Excel workbook"
   * @throws DocumentError `damaged`, `encrypted` or `too_large`
   */
  static async open(path: string, what: string, limits?: ZipLimits): Promise<OpcPackage> {
    return new OpcPackage(await ZipContainer.open(path, what, limits), what);
  }

  close(): void {
    this.zip.close();
  }

  /** The part that the others hang on: the workbook, the presentation. */
  async mainPart(): Promise<string> {
    const main = (await this.relationships('')).find(({ type }) => type === 'officeDocument');
    if (!main || !this.has(main.target)) throw this.damaged();
    return main.target;
  }

  /** What a part refers to within the package, in order; '' is the package itself. */
  async relationships(part: string): Promise<Relationship[]> {
    const folder = posix.dirname(part);
    const entry = this.zip.find(posix.join(folder, '_rels', `${posix.basename(part)}.rels`));
    const found: Relationship[] = [];
    if (!entry) return found;
    await readXml(this.zip.read(entry), {
      open: (name, { Id, Type, Target, TargetMode }) => {
        if (name !== 'Relationship' || !Id || !Target || TargetMode === 'External') return;
        const target = Target.startsWith('/') ? Target : posix.join('/', folder, Target);
        found.push({ id: Id, type: posix.basename(Type ?? ''), target: posix.normalize(target).slice(1) });
      },
    });
    return found;
  }

  has(part: string): boolean {
    return this.zip.find(part) !== null;
  }

  /** @throws DocumentError `damaged` where there is no such part */
  async read(part: string, handler: XmlHandler): Promise<void> {
    await readXml(this.zip.read(this.entry(part)), handler);
  }

  /** Yields after every piece that was read. */
  events(part: string, handler: XmlHandler): AsyncGenerator<void> {
    return xmlEvents(this.zip.read(this.entry(part)), handler);
  }

  bytes(part: string): AsyncGenerator<Buffer> {
    return this.zip.read(this.entry(part));
  }

  /** Unpacks all of it, and keeps what is wanted: of several parts of one name the first. */
  async parts(wanted: (name: string) => boolean): Promise<StoredFile[]> {
    const found = new Map<string, StoredFile>();
    for (const entry of this.zip.entries) {
      const { name } = entry;
      const keep = wanted(name) && !found.has(name);
      const pieces: Buffer[] = [];
      for await (const piece of this.zip.read(entry)) if (keep) pieces.push(piece);
      if (keep) found.set(name, { name, content: Buffer.concat(pieces) });
    }
    return [...found.values()];
  }

  /** The title among the properties of the document; null where it has none. */
  async title(): Promise<string | null> {
    const core = (await this.relationships('')).find(({ type }) => type === 'core-properties');
    const part = core?.target ?? 'docProps/core.xml';
    if (!this.has(part)) return null;
    let title = '';
    let within = false;
    await this.read(part, {
      open: name => (within = name === 'title'),
      close: () => (within = false),
      text: text => {
        if (within) title += text;
      },
    });
    return title.trim() || null;
  }

  damaged(): DocumentError {
    return new DocumentError('damaged', `The ${this.what} is damaged and cannot be opened.`);
  }

  private entry(part: string): ZipEntry {
    const entry = this.zip.find(part);
    if (!entry) throw this.damaged();
    return entry;
  }
}

/** The id of a relationship that an element names: `r:id`, whatever prefix stands for the namespace. */
export const relationshipId = (attributes: Record<string, string>): string | null =>
  prefixedAttribute(attributes, 'id');
