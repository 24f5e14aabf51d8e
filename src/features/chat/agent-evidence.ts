import { randomBytes } from 'node:crypto';
import { cutTo } from '../../core/models/prompt-text.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { asPrompted } from '../rag-query/answer-prompt.js';
import type { CitedPassage } from '../rag-query/answer-reader.js';
import type { Candidate } from '../rag-query/extractive-answer.js';
import { CitationSupport } from '../rag-query/citation-support.js';
import { citationOf } from '../rag-query/passage-quotes.js';
import type { Citation } from '../rag-query/rag-query.dto.js';
import type { Passage } from '../retrieval/retrieval.repository.js';

/** Tokens of what stands around a passage. */
const AROUND = 24;
/** Tokens of a passage below which it is worth nothing. */
const LEAST_PASSAGE = 64;

/** A passage, with the number that the agent knows it by. */
export interface Numbered {
  number: number;
  passage: Passage;
}

/** What one search has found, with what its best sentences are told by. */
export interface Finding {
  passages: readonly Passage[];
  candidates: readonly Candidate[];
  /** Of each candidate. */
  lexemes: readonly string[][];
  /** Of the query's lexemes. */
  weights: ReadonlyMap<string, number>;
}

/** All that the searches for one answer have found: each passage once, under one number. */
export class AgentEvidence {
  /** What separates passages: 64 bits that no document can know. */
  readonly mark = `#${randomBytes(8).toString('hex')}`;
  /** By their numbers, from 1. */
  readonly passages: Passage[] = [];
  /** What addresses in the answer may be taken from. */
  readonly sources: string[];
  private support = new CitationSupport([]);
  /** Of each passage; their numbers are given where they are cited. */
  private readonly citations: Citation[] = [];

  /** @param room tokens that all passages together may have */
  constructor(
    private room: number,
    sources: readonly string[],
  ) {
    this.sources = [...sources];
  }

  get isFull(): boolean {
    return this.room < LEAST_PASSAGE;
  }

  /** Adds what there is room for, the best first. @returns those that the agent is told of, and how */
  add({ passages, candidates, lexemes, weights }: Finding): { numbered: Numbered[]; text: string } {
    const numbered: Numbered[] = [];
    const texts: string[] = [];
    for (const passage of passages) {
      const known = this.passages.findIndex(({ chunk_id }) => chunk_id === passage.chunk_id) + 1;
      const whole = known > 0 ? 'As before.' : asPrompted(passage);
      // Of the best of all at least the beginning.
      const text = this.passages.length === 0 ? cutTo(whole, this.room - AROUND) : whole;
      const size = estimateTokens(text) + AROUND;
      if (size > this.room) break;
      this.room -= size;
      if (known === 0) {
        this.passages.push(passage);
        this.sources.push(text);
        this.citations.push(citationOf(passage, 0, candidates, lexemes, weights));
      }
      const number = known || this.passages.length;
      numbered.push({ number, passage });
      texts.push(`${this.mark}\n[${number}] ${text}\n\n`);
    }
    this.support = new CitationSupport(this.passages.map(passage => passage.text));
    return { numbered, text: texts.length === 0 ? '' : `${texts.join('')}${this.mark}` };
  }

  /** Whether a statement is in the words of another passage than the one that it cites. */
  isBorrowed(text: string, passage: number): boolean {
    return this.support.isBorrowed(text, passage);
  }

  citation({ index, passage }: CitedPassage): Citation {
    return { ...(this.citations[passage] as Citation), index };
  }
}
