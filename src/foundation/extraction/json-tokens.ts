/** What is not JSON (RFC 8259). */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError';
}

export interface JsonHandler {
  open(kind: 'object' | 'array'): void;
  close(): void;
  key(name: string): void;
  /** A string as it reads, anything else as it is written: `JSON.parse` would round long numbers. */
  scalar(text: string): void;
}

/** Objects and arrays within one another. */
const MAX_DEPTH = 500;
/** UTF-16 code units of one string, with its escapes. */
const MAX_STRING_LENGTH = 16 * 1024 * 1024;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$|(?:true|false|null)$/y;

/** Reads JSON of any size piece by piece; several values may follow one another, as in JSON Lines. */
export class JsonTokens {
  private values = 0;
  /** What has been read of a token that is not complete yet, and more of it where it is a string. */
  private rest = '';
  private more: string[] = [];
  private moreLength = 0;
  private readonly open: ('object' | 'array')[] = [];
  private expected: 'value' | 'first-value' | 'key' | 'first-key' | 'colon' | 'comma' = 'value';

  constructor(private readonly handler: JsonHandler) {}

  /** Values at the top that have begun. */
  get begun(): number {
    return this.values + (this.open.length > 0 || this.rest !== '' ? 1 : 0);
  }

  /** @throws JsonSyntaxError */
  write(piece: string): void {
    // Not joined before its end is there: that would take time with the square of its length.
    if (this.rest.startsWith('"') && !piece.includes('"')) {
      this.more.push(piece);
      this.moreLength += piece.length;
      if (this.rest.length + this.moreLength > MAX_STRING_LENGTH) throw tooLong();
      return;
    }
    const text = this.rest + this.more.join('') + piece;
    [this.more, this.moreLength] = [[], 0];
    let at = 0;
    while (at < text.length) {
      const char = text[at]!;
      if (char === ' ' || char === '\n' || char === '\r' || char === '\t') at++;
      else if (char === '"') {
        const end = stringEnd(text, at + 1);
        if (end === -1) break;
        this.string(text.slice(at, end));
        at = end;
      } else if (/[-\w+.]/.test(char)) {
        let end = at + 1;
        while (end < text.length && /[-\w+.]/.test(text[end]!)) end++;
        // It may go on in the next piece.
        if (end === text.length) break;
        this.scalar(text.slice(at, end));
        at = end;
      } else {
        this.punctuation(char);
        at++;
      }
    }
    this.rest = text.slice(at);
    if (this.rest.length > MAX_STRING_LENGTH) throw tooLong();
  }

  /** @throws JsonSyntaxError where something is left open */
  end(): void {
    if (this.rest !== '' && !this.rest.startsWith('"')) this.scalar(this.rest);
    else if (this.rest !== '') throw new JsonSyntaxError('A string is not closed.');
    this.rest = '';
    if (this.open.length > 0) throw new JsonSyntaxError(`An ${this.open.at(-1)} is not closed.`);
  }

  private punctuation(char: string): void {
    if (char === '{' || char === '[') {
      this.expectValue();
      if (this.open.length >= MAX_DEPTH) throw new JsonSyntaxError('It is nested too deeply.');
      const kind = char === '{' ? 'object' : 'array';
      this.open.push(kind);
      this.expected = kind === 'object' ? 'first-key' : 'first-value';
      this.handler.open(kind);
    } else if (char === '}' || char === ']') {
      const kind = char === '}' ? 'object' : 'array';
      const first = kind === 'object' ? 'first-key' : 'first-value';
      if (this.open.at(-1) !== kind || (this.expected !== 'comma' && this.expected !== first))
        throw unexpected(char);
      this.open.pop();
      this.handler.close();
      this.endValue();
    } else if (char === ':' && this.expected === 'colon') this.expected = 'value';
    else if (char === ',' && this.expected === 'comma') {
      this.expected = this.open.at(-1) === 'object' ? 'key' : 'value';
    } else throw unexpected(char);
  }

  private string(literal: string): void {
    let value: string;
    try {
      value = JSON.parse(literal) as string;
    } catch {
      throw new JsonSyntaxError('A string holds what no string may.');
    }
    if (this.expected === 'key' || this.expected === 'first-key') {
      this.handler.key(value);
      this.expected = 'colon';
    } else {
      this.expectValue();
      this.handler.scalar(value);
      this.endValue();
    }
  }

  private scalar(literal: string): void {
    SCALAR.lastIndex = 0;
    if (!SCALAR.test(literal)) throw unexpected(literal.slice(0, 20));
    this.expectValue();
    this.handler.scalar(literal);
    this.endValue();
  }

  private expectValue(): void {
    if (this.expected !== 'value' && this.expected !== 'first-value')
      throw new JsonSyntaxError('A comma is missing.');
  }

  private endValue(): void {
    this.expected = this.open.length === 0 ? 'value' : 'comma';
    if (this.open.length === 0) this.values++;
  }
}

/** Behind the quotation mark that closes the string; -1 where it is not there yet. */
function stringEnd(text: string, start: number): number {
  for (let quote = text.indexOf('"', start); quote !== -1; quote = text.indexOf('"', quote + 1)) {
    let slashes = 0;
    while (text[quote - 1 - slashes] === '\\') slashes++;
    if (slashes % 2 === 0) return quote + 1;
  }
  return -1;
}

const tooLong = () => new JsonSyntaxError('A text within it is too long.');

const unexpected = (text: string) => new JsonSyntaxError(`"${text}" stands where it may not.`);

const ignore = () => undefined;
const NOBODY: JsonHandler = { open: ignore, close: ignore, key: ignore, scalar: ignore };

/** What the beginning of a text is, as JSON: several values, one or the beginning of one, or none. */
export function jsonKind(head: string, { truncated = false } = {}): 'json' | 'jsonl' | null {
  // A lone number or word is text.
  if (!/^\s*[[{]/.test(head)) return null;
  const tokens = new JsonTokens(NOBODY);
  try {
    tokens.write(head);
    if (!truncated) tokens.end();
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    return null;
  }
  return tokens.begun > 1 ? 'jsonl' : 'json';
}
