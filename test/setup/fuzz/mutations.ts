import fc from 'fast-check';
import { hostileValue } from './values.js';

interface Place {
  holder: Record<string, unknown> | unknown[];
  key: string | number;
}

/** Names that nothing here is called, or that must not come from outside. */
const UNKNOWN_FIELDS = [
  'unknown',
  'id',
  'tenant_id',
  'tenantId',
  'created_by',
  'is_admin',
  'platform_role',
  'toString',
  'a.b',
  '',
  '$where',
] as const;

/** JSON of a value as it is, or with one or two things wrong in it, or that is none any more. */
export function mutated(
  value: fc.Arbitrary<unknown>,
): fc.Arbitrary<{ text: string; encoding: 'utf8' | 'latin1' }> {
  const change = fc.record({
    kind: fc.constantFrom('replace', 'replace', 'replace', 'remove', 'add'),
    at: fc.nat(1_000),
    name: fc.constantFrom(...UNKNOWN_FIELDS),
    by: hostileValue,
  });
  const changes = fc.oneof(
    { weight: 5, arbitrary: fc.constant([]) },
    { weight: 4, arbitrary: fc.array(change, { minLength: 1, maxLength: 2 }) },
  );
  const spoil = fc.oneof(
    { weight: 15, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.constantFrom(...Object.keys(SPOILT)) },
  );
  return fc.tuple(value, changes, spoil).map(([original, wrongs, how]) => {
    const root = { root: structuredClone(original) };
    // A copy: what is put in once may be put into itself by the next change.
    for (const wrong of wrongs) apply(root, { ...wrong, by: structuredClone(wrong.by) });
    const text = JSON.stringify(root.root) ?? '';
    return how === null
      ? { text, encoding: 'utf8' as const }
      : {
          text: (SPOILT[how] as (json: string) => string)(text),
          encoding: how === 'bytes' ? 'latin1' : 'utf8',
        };
  });
}

interface Change {
  kind: string;
  at: number;
  name: string;
  by: unknown;
}

function apply(root: { root: unknown }, { kind, at, name, by }: Change): void {
  const places = placesOf(root);
  const place = places[at % places.length] as Place;
  const value = (place.holder as Record<string, unknown>)[place.key];
  if (kind === 'add') {
    const holder = typeof value === 'object' && value !== null ? value : root.root;
    if (Array.isArray(holder)) holder.push(by);
    else if (typeof holder === 'object' && holder !== null) (holder as Record<string, unknown>)[name] = by;
  } else if (kind === 'remove' && !Array.isArray(place.holder) && place.holder !== (root as unknown)) {
    delete place.holder[place.key];
  } else {
    (place.holder as Record<string, unknown>)[place.key] = by;
  }
}

/** Everywhere that a value stands, the outermost first. */
function placesOf(root: object): Place[] {
  const found: Place[] = [];
  const look = (holder: Place['holder'], depth: number): void => {
    for (const key of Object.keys(holder)) {
      found.push({ holder, key });
      const value = (holder as Record<string, unknown>)[key];
      if (typeof value === 'object' && value !== null && depth < 8) look(value as Place['holder'], depth + 1);
    }
  };
  look(root as Place['holder'], 0);
  return found;
}

/** What is no JSON, or JSON that parsers disagree about. */
const SPOILT: Record<string, (json: string) => string> = {
  nothing: () => '',
  space: () => ' \n',
  null: () => 'null',
  array: json => `[${json}]`,
  text: () => '"a text"',
  number: () => '1e999',
  cut: json => json.slice(0, Math.floor(json.length / 2)),
  trailing: json => `${json}}`,
  comma: json => json.replace(/\}$/, ',}'),
  twice: json => json.replace(/^\{("(?:[^"\\]|\\.)*":)/, '{$1"the first of two",$1'),
  proto: json => json.replace(/^\{/, '{"__proto__":{"polluted":true},'),
  prototype: json => json.replace(/^\{/, '{"constructor":{"prototype":{"polluted":true}},'),
  mark: json => `\ufeff${json}`,
  quotes: json => json.replaceAll('"', "'"),
  nan: json => json.replace(/:[^,{}]*/, ':NaN'),
  bytes: json => json.replace(/:"/, ':"\u00ff\u00fe\u00c3'),
  deep: () => '['.repeat(5_000) + ']'.repeat(5_000),
  comment: json => `/* */${json}`,
};
