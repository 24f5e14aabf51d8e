import { expect, it } from 'vitest';
import { changesBetween } from './tenant-changes.js';

it('names what changes, before and after, and of free JSON the keys', () => {
  expect(
    changesBetween(
      { name: 'a', type: 'project', settings: { same: [1], gone: 1, other: 'x' } },
      { name: 'b', type: 'project', settings: { same: [1], other: 'y', fresh: true } },
    ),
  ).toEqual({
    name: { before: 'a', after: 'b' },
    'settings.gone': { before: 1, after: null },
    'settings.other': { before: 'x', after: 'y' },
    'settings.fresh': { before: null, after: true },
  });
});

it('says of long values only how long they are', () => {
  expect(changesBetween({ a: '' }, { a: 'x'.repeat(1000) })).toEqual({
    a: { before: '', after: '(1002 characters)' },
  });
});

it('is null where nothing changes', () => {
  expect(changesBetween({ a: { b: 1 }, c: 1 }, { a: { b: 1 } })).toBeNull();
});
