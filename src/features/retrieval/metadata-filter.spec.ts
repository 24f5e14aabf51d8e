import { describe, expect, it } from 'vitest';
import { metadataCondition, metadataFilterSchema } from './metadata-filter.js';

describe('metadataCondition', () => {
  it('leaves plain values to containment', () => {
    const filter = { lang: 'en', tags: ['a'], owner: { name: 'Ann' } };
    expect(metadataCondition(filter)).toEqual({ contained: filter });
    expect(metadataCondition({})).toEqual({ contained: {} });
    expect(metadataCondition({ lang: '$gt' })).toEqual({ contained: { lang: '$gt' } });
  });

  it('writes no value into the path, and quotes keys', () => {
    const { contained, path, variables } = metadataCondition({
      kind: 'x',
      'a"b': { $eq: '" || true' },
      n: { $in: [1, null] },
    });
    expect(contained).toEqual({ kind: 'x' });
    expect(path).toBe('(($."a\\"b" == $v1)) && (($."n" == $v2[*]))');
    expect(variables).toEqual({ v1: '" || true', v2: [1, null] });
  });

  it.each<[Record<string, unknown>, string]>([
    [{ a: { $where: 'x' } }, 'knows no operator $where'],
    [{ $where: 'x' }, 'knows no operator $where'],
    [{ a: { $gt: { b: 1 } } }, '$gt takes'],
    [{ a: { $in: 'b' } }, '$in takes a list'],
    [{ a: { $in: [{}] } }, '$in takes a list'],
    [{ a: { $exists: 'yes' } }, '$exists takes'],
    [{ $or: [] }, '$or takes a list'],
    [{ $or: [1] }, '$or takes conditions'],
    [{ $and: {} }, '$and takes a list'],
    [{ $not: [] }, '$not takes conditions'],
    [{ a: { $gt: 1, b: 2 } }, '"b" cannot stand beside operators'],
    [{ a: { b: [{ $gt: 1 }, { $nope: 1 }] } }, 'knows no operator $nope'],
    [nested(20), 'nested deeper'],
    [{ $or: Array.from({ length: 200 }, (_, i) => ({ a: i })) }, 'more than 100 conditions'],
    [{ a: { $in: Array.from({ length: 2000 }, (_, i) => i) } }, '$in takes a list of at most'],
  ])('refuses %j', (filter, message) => {
    expect(() => metadataCondition(filter)).toThrow(message);
    expect(metadataFilterSchema.safeParse(filter).error?.issues[0]?.message).toContain(message);
  });
});

function nested(depth: number): Record<string, unknown> {
  return depth === 0 ? { a: { $eq: 1 } } : { $not: nested(depth - 1) };
}
