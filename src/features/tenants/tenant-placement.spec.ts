import { describe, expect, it } from 'vitest';
import { type Placement, placementErrors } from './tenant-placement.js';

const organization = { type: 'organization', status: 'active' } as const;
const fresh: Placement = { id: null, type: 'organization', parentId: null, hasChildren: false };
const codes = (placement: Partial<Placement>, parent: Parameters<typeof placementErrors>[1] = null) =>
  placementErrors({ ...fresh, ...placement }, parent).map(({ path, code }) => `${path} ${code}`);

describe('placementErrors', () => {
  it('finds none where a tenant may stand', () => {
    expect(codes({})).toEqual([]);
    expect(codes({ hasChildren: true })).toEqual([]);
    for (const type of ['department', 'project', 'customer'] as const) {
      expect(codes({ type })).toEqual([]);
      expect(codes({ type, parentId: 'p' }, organization)).toEqual([]);
      expect(codes({ type, parentId: 'p' }, { ...organization, status: 'suspended' })).toEqual([]);
    }
  });

  it.each([
    ['an organization under another', { parentId: 'p' }, organization, ['parent_id no_parent']],
    ['itself', { id: 'p', type: 'project', parentId: 'p' }, organization, ['parent_id own_parent']],
    ['nothing', { type: 'project', parentId: 'p' }, null, ['parent_id not_an_organization']],
    [
      'a department',
      { type: 'project', parentId: 'p' },
      { type: 'department', status: 'active' },
      ['parent_id not_an_organization'],
    ],
    [
      'what is being erased',
      { type: 'project', parentId: 'p' },
      { ...organization, status: 'erasing' },
      ['parent_id not_an_organization'],
    ],
    ['a parent that is none any more', { type: 'customer', hasChildren: true }, null, ['type has_children']],
    [
      'two levels',
      { type: 'customer', hasChildren: true, parentId: 'p' },
      organization,
      ['type has_children'],
    ],
  ] as const)('names %s', (_, placement, parent, expected) => {
    expect(codes(placement, parent)).toEqual(expected);
  });
});
