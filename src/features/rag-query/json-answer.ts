import { inspect } from '../../foundation/http/request-guards.js';
import { AnswerReader, CitationNumbers, NO_ANSWER, type ReaderOptions } from './answer-reader.js';

/** An answer of the form that was asked for, checked like one of text. */
export interface JsonAnswer {
  /** JSON. */
  text: string;
  declined: boolean;
  removedLinks: number;
}

/**
 * Reads what a model wrote that was asked for JSON: markers are checked in its texts, and nowhere else; a list of numbers is
 * no marker.
 *
 * @returns null where it is no JSON object or list
 */
export function readJsonAnswer(
  reply: string,
  numbers: CitationNumbers,
  options: ReaderOptions,
): JsonAnswer | null {
  const bare = withoutFence(reply.trim());
  if (bare === '' || bare.startsWith(NO_ANSWER)) return { text: '', declined: true, removedLinks: 0 };
  const value = parse(bare);
  // What no client could send is nothing to be kept or shown either.
  if (typeof value !== 'object' || value === null || inspect(value)) return null;
  let removedLinks = 0;
  let texts = 0;
  let declining = 0;
  const checkedText = (text: string) => {
    texts++;
    const reader = new AnswerReader(numbers, options);
    reader.push(text);
    reader.end();
    removedLinks += reader.removedLinks;
    if (!reader.declined) return reader.text;
    declining++;
    return '';
  };
  // They cite nothing, but may lead away like any text.
  const checkedName = (name: string) => {
    const reader = new AnswerReader(new CitationNumbers(0), options);
    reader.push(name);
    reader.end();
    removedLinks += reader.removedLinks;
    return reader.declined ? name : reader.text;
  };
  const checked = mapTexts(value, checkedText, checkedName);
  const isEmpty = Object.keys(value).length === 0;
  // Without a single text the numbers in it may be the answer.
  const declined = isEmpty || (texts > 0 && declining === texts && !holdsMoreThanTexts(value));
  return { text: JSON.stringify(checked), declined, removedLinks };
}

/** Models like to put JSON into a block of code. */
function withoutFence(text: string): string {
  return /^```(?:json)?\s*\n([^]*?)\n?```$/i.exec(text)?.[1]?.trim() ?? text;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Every text in `value`, and by a change of their own the names of members. */
function mapTexts(
  value: unknown,
  change: (text: string) => string,
  changeName: (name: string) => string,
): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map(item => mapTexts(item, change, changeName));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [changeName(name), mapTexts(item, change, changeName)]),
  );
}

function holdsMoreThanTexts(value: unknown): boolean {
  if (typeof value === 'number' || typeof value === 'boolean') return true;
  return typeof value === 'object' && value !== null && Object.values(value).some(holdsMoreThanTexts);
}
