import type { AIMessageChunk } from '@langchain/core/messages';
import { ModelError } from './model.js';

/** Of an answer without a limit of its own, in tokens. */
const LONGEST_ANSWER = 32_768;
/** More than the longest tokens that models write on end. */
const CHARACTERS_A_TOKEN = 16;
/** Servers send a token in several pieces, and pieces without one. */
const PIECES_A_TOKEN = 4;
const MORE_PIECES = 1_000;
/** Characters of the arguments of all tool calls, and pieces that they come in. */
const LONGEST_ARGUMENTS = 5_000;
const MOST_ARGUMENTS = 2_000;
/** Blocks of one content: langchain looks for the place of each piece among all of them. */
const MOST_BLOCKS = 2_000;

/**
 * How much a streamed answer may be. Langchain puts the pieces together while they come, and parses the arguments of tool
 * calls anew with each: without bounds a server of a tenant's could keep the whole process busy.
 */
export class AnswerBounds {
  private readonly longest: number;
  private readonly mostPieces: number;
  private characters = 0;
  private pieces = 0;
  private argumentCharacters = 0;
  private argumentPieces = 0;
  private readonly blocks = new Set<unknown>();

  /** @param maxTokens that the model was told */
  constructor(
    private readonly subject: string,
    maxTokens: number | undefined,
  ) {
    this.longest = (maxTokens ?? LONGEST_ANSWER) * CHARACTERS_A_TOKEN;
    this.mostPieces = (maxTokens ?? LONGEST_ANSWER) * PIECES_A_TOKEN + MORE_PIECES;
  }

  /** To be told of each piece before anything is done with it. @throws ModelError */
  add({ text, content, tool_call_chunks: calls = [] }: AIMessageChunk): void {
    this.pieces++;
    this.characters += text.length;
    for (const { args } of calls) this.argumentCharacters += args?.length ?? 0;
    this.argumentPieces += calls.length;
    if (typeof content !== 'string') for (const block of content) this.blocks.add(block['index'] ?? block);
    if (
      this.characters > this.longest ||
      this.pieces > this.mostPieces ||
      this.argumentCharacters > LONGEST_ARGUMENTS ||
      this.argumentPieces > MOST_ARGUMENTS ||
      this.blocks.size > MOST_BLOCKS
    )
      throw endless(this.subject);
  }
}

export const endless = (subject: string): ModelError =>
  new ModelError('model_rejected', `${subject} gave an answer that does not end.`, false);
