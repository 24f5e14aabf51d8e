import type { EvaluationQuestion, RelevantItem } from './evaluation.js';

/** A passage that was found, as far as it is judged. */
export interface JudgedPassage {
  chunk_id: string;
  document_id: string;
  document_title: string;
  text: string;
}

/** What the document of a passage was made from: its `source_id`, its address. By the document's id. */
export type DocumentSources = ReadonlyMap<string, readonly string[]>;

/** Characters of a passage that must stand in a longer relevant text for it to be a part of that. */
const LEAST_PART = 40;

/**
 * Says what of that which was found is right, by what the question names as relevant. Where it names nothing but answers, a
 * passage that holds one of them is the one relevant item. Texts are compared without regard to case and white space.
 */
export class Judgement {
  private readonly items: ReadonlyArray<(passage: JudgedPassage) => boolean>;
  private readonly answers: readonly string[];
  /** Whether whole documents are relevant: a ranking is one of documents then, and not of their passages. */
  private readonly byDocument: boolean;

  constructor({ relevant, answers }: EvaluationQuestion, sources: DocumentSources) {
    this.answers = answers.map(plain);
    this.byDocument = relevant.length > 0 && relevant.every(({ text }) => text === undefined);
    const items = relevant.map(item => matcherOf(item, sources));
    const holdsAnswer = ({ text }: JudgedPassage) => this.holdsAnswer(text);
    this.items = items.length > 0 || answers.length === 0 ? items : [holdsAnswer];
  }

  /** How many items there are to be found; 0: the ranking cannot be judged. */
  get relevant(): number {
    return this.items.length;
  }

  /** How many of them each rank shows first, as `metrics.ts` takes it. */
  found(passages: readonly JudgedPassage[]): number[] {
    const open = new Set(this.items);
    return this.ranked(passages).map(passage => {
      const shown = [...open].filter(matches => matches(passage));
      for (const item of shown) open.delete(item);
      return shown.length;
    });
  }

  /** Whether a citation of this passage is right: it holds an answer, or is of what is relevant. */
  supports(passage: JudgedPassage): boolean {
    return this.holdsAnswer(passage.text) || this.items.some(matches => matches(passage));
  }

  /** Whether one of the answers that are right stands in a text. */
  holdsAnswer(text: string): boolean {
    const whole = plain(text);
    return this.answers.some(answer => whole.includes(answer));
  }

  private ranked(passages: readonly JudgedPassage[]): readonly JudgedPassage[] {
    if (!this.byDocument) return passages;
    const seen = new Set<string>();
    return passages.filter(({ document_id: id }) => !seen.has(id) && seen.add(id));
  }
}

function matcherOf(item: RelevantItem, sources: DocumentSources): (passage: JudgedPassage) => boolean {
  const { document_id: id, title, source, text } = item;
  if (id !== undefined) return passage => passage.document_id === id.toLowerCase();
  if (source !== undefined) return ({ document_id }) => sources.get(document_id)?.includes(source) ?? false;
  if (title !== undefined) {
    const wanted = plain(title);
    return passage => plain(passage.document_title) === wanted;
  }
  const wanted = plain(text ?? '');
  return passage => {
    const whole = plain(passage.text);
    return whole.includes(wanted) || (whole.length >= LEAST_PART && wanted.includes(whole));
  };
}

const plain = (text: string): string => text.normalize('NFKC').toLowerCase().replace(/\s+/g, ' ').trim();
