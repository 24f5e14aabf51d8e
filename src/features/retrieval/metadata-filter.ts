import { freeJson } from '../../foundation/http/free-json.js';

/** A condition on the metadata of documents, as PostgreSQL is asked: all that is given must hold. */
export interface MetadataCondition {
  /** Contained in the metadata (jsonb `@>`). */
  contained?: Record<string, unknown>;
  /** A jsonpath predicate. Values are in it as variables only, keys as quoted strings. */
  path?: string;
  /** The path's variables. */
  variables?: Record<string, unknown>;
}

/** What cannot be made a condition; the message is for whoever asked. */
export class MetadataFilterError extends Error {
  override readonly name = 'MetadataFilterError';
}

/** Objects and lists inside of each other. */
const DEEPEST = 8;
const MOST_CONDITIONS = 100;
const MOST_VALUES = 1_000;

type Scalar = string | number | boolean | null;
type Fields = Record<string, unknown>;

const COMPARISONS: Record<string, string> = {
  $eq: '==',
  $ne: '==',
  $gt: '>',
  $gte: '>=',
  $lt: '<',
  $lte: '<=',
  $in: '==',
  $nin: '==',
};
const LOGIC = ['$and', '$or', '$not'];
const OPERATORS = [...Object.keys(COMPARISONS), '$exists', ...LOGIC];

/**
 * Makes a filter a condition. Fields without operators are contained in the metadata, as objects and lists are in jsonb.
 * With operators: `{year: {$gte: 2020, $lt: 2024}}`, `{lang: {$in: ['en', 'de']}}`, `{owner: {$exists: true}}`,
 * `{address: {city: {$ne: 'Rome'}}}`, `{$or: [{…}, {…}]}`, `{$not: {…}}`. A list matches where one of its elements does.
 * Numbers are compared with numbers and texts with texts, by code points, so that ISO dates compare as dates;
 * everything else is not comparable and does not match. What `$ne`, `$nin` and `$not` deny also fails to hold where the
 * field is missing: they match then.
 *
 * @throws MetadataFilterError for an unknown operator, an operator with the wrong value, and what is too large
 */
export function metadataCondition(filter: Fields): MetadataCondition {
  const plain: Fields = {};
  const conditions = new Conditions();
  const paths: string[] = [];
  for (const [key, value] of Object.entries(filter)) {
    if (!key.startsWith('$') && !hasOperator(value)) plain[key] = value;
    else paths.push(conditions.ofField('$', key, value, 1));
  }
  return {
    ...(Object.keys(plain).length > 0 || paths.length === 0 ? { contained: plain } : {}),
    ...(paths.length > 0 ? { path: all(paths), variables: conditions.variables } : {}),
  };
}

class Conditions {
  readonly variables: Record<string, unknown> = {};
  private count = 0;

  /** @param at the jsonpath of the object that the field is in */
  ofField(at: string, key: string, value: unknown, depth: number): string {
    if (depth > DEEPEST) throw new MetadataFilterError(`is nested deeper than ${DEEPEST} levels`);
    if (key === '$and' || key === '$or') {
      if (!Array.isArray(value) || value.length === 0)
        throw new MetadataFilterError(`${key} takes a list of conditions`);
      const parts = value.map(part => this.ofObject(at, part, key, depth + 1));
      return key === '$and' ? all(parts) : any(parts);
    }
    if (key === '$not') return not(this.ofObject(at, value, key, depth + 1));
    if (key.startsWith('$')) throw unknownOperator(key);
    return this.ofValue(`${at}.${JSON.stringify(key)}`, value, depth + 1);
  }

  private ofObject(at: string, value: unknown, operator: string, depth: number): string {
    if (!isObject(value) || Object.keys(value).length === 0)
      throw new MetadataFilterError(`${operator} takes conditions, each an object with fields`);
    return all(Object.entries(value).map(([key, part]) => this.ofField(at, key, part, depth)));
  }

  private ofValue(at: string, value: unknown, depth: number): string {
    if (depth > DEEPEST) throw new MetadataFilterError(`is nested deeper than ${DEEPEST} levels`);
    if (Array.isArray(value)) {
      // As in containment: every element must be there.
      if (value.length === 0) return this.exists(at);
      return all(value.map(element => this.ofValue(at, element, depth + 1)));
    }
    if (!isObject(value)) return this.compare(at, '==', value as Scalar);
    const entries = Object.entries(value);
    if (entries.length === 0) return this.exists(at);
    if (!entries.some(([key]) => key.startsWith('$')))
      return all(entries.map(([key, part]) => this.ofField(at, key, part, depth)));
    return all(entries.map(([key, operand]) => this.ofOperator(at, key, operand, depth)));
  }

  private ofOperator(at: string, operator: string, operand: unknown, depth: number): string {
    if (operator === '$not') {
      if (!isObject(operand)) throw new MetadataFilterError('$not takes operators or conditions');
      return not(this.ofValue(at, operand, depth + 1));
    }
    if (operator === '$exists') {
      if (typeof operand !== 'boolean') throw new MetadataFilterError('$exists takes true or false');
      return operand ? this.exists(at) : `!(${this.exists(at)})`;
    }
    const comparison = COMPARISONS[operator];
    if (!comparison) {
      throw operator.startsWith('$')
        ? unknownOperator(operator)
        : new MetadataFilterError(`"${operator}" cannot stand beside operators`);
    }
    if (operator === '$in' || operator === '$nin') {
      if (!Array.isArray(operand) || !operand.every(isScalar) || operand.length > MOST_VALUES)
        throw new MetadataFilterError(
          `${operator} takes a list of at most ${MOST_VALUES} texts, numbers, booleans and nulls`,
        );
      const one = this.compare(at, '==', operand);
      return operator === '$in' ? one : not(one);
    }
    if (!isScalar(operand))
      throw new MetadataFilterError(`${operator} takes a text, a number, a boolean or null`);
    const one = this.compare(at, comparison, operand);
    return operator === '$ne' ? not(one) : one;
  }

  private exists(at: string): string {
    this.countOne();
    return `exists(${at})`;
  }

  private compare(at: string, comparison: string, value: Scalar | Scalar[]): string {
    const name = `v${this.countOne()}`;
    this.variables[name] = value;
    return `${at} ${comparison} $${name}${Array.isArray(value) ? '[*]' : ''}`;
  }

  private countOne(): number {
    if (++this.count > MOST_CONDITIONS)
      throw new MetadataFilterError(`holds more than ${MOST_CONDITIONS} conditions`);
    return this.count;
  }
}

const all = (parts: string[]): string => parts.map(part => `(${part})`).join(' && ');
const any = (parts: string[]): string => parts.map(part => `(${part})`).join(' || ');
/** Where values are not comparable a predicate is unknown, and would stay so when it is denied. */
const not = (part: string): string => `!(${part}) || ((${part}) is unknown)`;

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isScalar = (value: unknown): value is Scalar =>
  value === null || ['string', 'number', 'boolean'].includes(typeof value);

function hasOperator(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(hasOperator);
  return (
    isObject(value) && Object.entries(value).some(([key, part]) => key.startsWith('$') || hasOperator(part))
  );
}

const unknownOperator = (operator: string): MetadataFilterError =>
  new MetadataFilterError(`knows no operator ${operator}: there are ${OPERATORS.join(', ')}`);

/** Checked as a whole, so that whoever asks hears what is wrong with it before anything is searched. */
export const metadataFilterSchema = freeJson
  .superRefine((filter, refinement) => {
    try {
      metadataCondition(filter);
    } catch (error) {
      if (!(error instanceof MetadataFilterError)) throw error;
      refinement.addIssue({ code: 'custom', message: error.message });
    }
  })
  .describe(
    'On the document’s metadata. Plain values and objects are contained in it; operators: $eq, $ne, $in, $nin, $gt, $gte, ' +
      '$lt, $lte, $exists, and around conditions $and, $or, $not.',
  )
  .meta({ example: { department: 'support', year: { $gte: 2020 } } });
