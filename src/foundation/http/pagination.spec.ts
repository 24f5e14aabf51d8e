import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { likePattern, listQuery, orderBy, pageQuery, toMegabytes, toPage } from './pagination.js';

const query = listQuery(['name', 'created_at'], { status: z.enum(['ready', 'failed']).optional() });

describe('listQuery', () => {
  it('fills in what is missing: the first page, twenty, by the first field', () => {
    expect(query.parse({})).toEqual({ page: 1, page_size: 20, sort: 'name' });
  });

  it('reads what a query string holds', () => {
    expect(
      query.parse({ page: '3', page_size: '100', sort: '-created_at', search: 'x', status: 'ready' }),
    ).toEqual({
      page: 3,
      page_size: 100,
      sort: '-created_at',
      search: 'x',
      status: 'ready',
    });
  });

  it.each([
    { page: '0' },
    { page: '-1' },
    { page: '1.5' },
    { page: 'one' },
    { page: '1000001' },
    { page: ['1', '2'] },
    { page_size: '0' },
    { page_size: '101' },
    { sort: 'password_hash' },
    { sort: '--name' },
    { sort: 'name; DROP TABLE users' },
    { search: 'x'.repeat(201) },
    { search: ['a', 'b'] },
    { status: 'unheard of' },
    { unknown: 'x' },
  ])('refuses %j', given => {
    expect(query.safeParse(given).success).toBe(false);
  });

  it('has a plain form, which cannot be sorted or searched', () => {
    expect(pageQuery.parse({ page: '2' })).toEqual({ page: 2, page_size: 20 });
    expect(pageQuery.safeParse({ sort: 'name' }).success).toBe(false);
  });
});

describe('orderBy', () => {
  const columns = { name: 't.name', created_at: 't.created_at' };

  it('gives a column and a direction', () => {
    expect(orderBy('name', columns)).toBe('t.name ASC');
    expect(orderBy('-created_at', columns)).toBe('t.created_at DESC');
  });

  it.each(['email', '', '-', 'constructor', 'name; --'])('gives no column for %j', sort => {
    expect(() => orderBy(sort, columns)).toThrow(/no column/);
  });
});

describe('likePattern', () => {
  it('takes wildcards literally', () => {
    expect(likePattern('100%_\\')).toBe('%100\\%\\_\\\\%');
  });
});

it('writes pages and sizes as the wire has them', () => {
  expect(toPage({ items: [1, 2], total: 12 }, { page: 2, page_size: 10 }, String)).toEqual({
    items: ['1', '2'],
    total: 12,
    page: 2,
    page_size: 10,
  });
  expect(toMegabytes(1_572_864)).toBe(1.5);
  expect(toMegabytes(1)).toBe(0);
});
