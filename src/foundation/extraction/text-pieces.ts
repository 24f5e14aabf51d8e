import type { TextPart } from './document-parts.js';

/** UTF-16 code units: enough that handing them on costs little, few enough that they weigh nothing. */
const PIECE_LENGTH = 128 * 1024;

/** Gathers a long text that has no pages and hands it on in pieces that continue one another. */
export class TextPieces {
  private text = '';
  private begun = false;

  constructor(
    private readonly format: TextPart['format'],
    private readonly headings: readonly string[] = [],
  ) {}

  add(text: string): void {
    this.text += text;
  }

  /** Whether a piece is worth handing on. */
  get ready(): boolean {
    return this.text.length >= PIECE_LENGTH;
  }

  *take(): Generator<TextPart> {
    if (this.text === '') return;
    const { text, format, headings, begun: continues } = this;
    this.text = '';
    this.begun = true;
    yield { page: null, text, format, headings, continues };
  }
}
