import { DocumentError } from './document-error.js';
import type { ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { type JsonHandler, JsonSyntaxError, JsonTokens } from './json-tokens.js';
import { readText } from './text-encoding.js';
import { TextPieces } from './text-pieces.js';

/** UTF-16 code units of a line that lists what is in an array. */
const MAX_LIST_LENGTH = 1000;

/** JSON or JSON Lines: a line a value, `path: value`; an object in an array is a record, a block of its own. */
export async function* readJson(file: SourceFile): AsyncGenerator<TextPart, ReadSummary> {
  const pieces = new TextPieces('plain');
  const tokens = new JsonTokens(new JsonLines(text => pieces.add(text)));
  try {
    for await (const text of readText(file.path)) {
      tokens.write(text);
      if (pieces.ready) yield* pieces.take();
    }
    tokens.end();
  } catch (cause) {
    if (!(cause instanceof JsonSyntaxError)) throw cause;
    const where = tokens.begun > 1 ? ` Value ${tokens.begun} of the file is at fault.` : '';
    throw new DocumentError('damaged', `The file is no valid JSON: ${cause.message}${where}`, { cause });
  }
  yield* pieces.take();
  return { title: null };
}

interface Level {
  kind: 'object' | 'array';
  /** Of the level itself, from its record: `address`, `people[3]`; '' for a record. */
  path: string;
  key: string;
  index: number;
  /** Values of an array that stand on one line. */
  list: string;
}

class JsonLines implements JsonHandler {
  private readonly levels: Level[] = [];
  private blank = true;

  constructor(private readonly emit: (text: string) => void) {}

  open(kind: 'object' | 'array'): void {
    const outer = this.levels.at(-1);
    const path = this.begin();
    if (outer) this.endList(outer);
    // What an array holds, and what stands at the top, is a record.
    if (!outer || outer.kind === 'array') this.endBlock();
    this.levels.push({ kind, path, key: '', index: 0, list: '' });
  }

  close(): void {
    const level = this.levels.pop()!;
    this.endList(level);
    const outer = this.levels.at(-1);
    if (!outer || outer.kind === 'array') this.endBlock();
  }

  key(name: string): void {
    this.levels.at(-1)!.key = name;
  }

  scalar(text: string): void {
    const level = this.levels.at(-1);
    const path = this.begin();
    if (level?.kind !== 'array') this.line(path, text);
    else {
      level.list = level.list === '' ? text : `${level.list}, ${text}`;
      if (level.list.length > MAX_LIST_LENGTH) this.endList(level);
    }
  }

  /** The path of the value that begins. */
  private begin(): string {
    const level = this.levels.at(-1);
    if (!level) return '';
    if (level.kind === 'object') return level.path === '' ? level.key : `${level.path}.${level.key}`;
    const index = level.index++;
    // Of an array at the top, each is a record; its number says nothing.
    return level.path === '' ? '' : `${level.path}[${index}]`;
  }

  private endList(level: Level): void {
    if (level.list !== '') this.line(level.path, level.list);
    level.list = '';
  }

  private line(path: string, text: string): void {
    this.emit(path === '' ? `${text}\n` : `${path}: ${text}\n`);
    this.blank = false;
  }

  private endBlock(): void {
    if (!this.blank) this.emit('\n');
    this.blank = true;
  }
}
