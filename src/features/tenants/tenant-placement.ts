import type { FieldError } from '../../foundation/http/problem.js';
import type { Tenant } from './tenant.entity.js';

/** Where a tenant stands, or is to stand. */
export interface Placement {
  /** Null for one that is being made. */
  id: string | null;
  type: Tenant['type'];
  parentId: string | null;
  /** Whether other tenants hang under it. */
  hasChildren: boolean;
}

/**
 * An organization has no parent, and everything else at most an organization: one level, in which no circle has room.
 *
 * @param parent the tenant of `parentId`; null where there is none of this id
 */
export function placementErrors(
  { id, type, parentId, hasChildren }: Placement,
  parent: Pick<Tenant, 'type' | 'status'> | null,
): FieldError[] {
  const errors: FieldError[] = [];
  if (hasChildren && type !== 'organization') {
    const message = 'must stay an organization: other tenants hang under this one';
    errors.push({ path: 'type', code: 'has_children', message });
  }
  if (parentId === null) return errors;
  if (parentId === id) {
    errors.push({ path: 'parent_id', code: 'own_parent', message: 'must be another tenant' });
  } else if (type === 'organization') {
    errors.push({ path: 'parent_id', code: 'no_parent', message: 'an organization has no parent' });
  } else if (parent?.type !== 'organization' || parent.status === 'erasing') {
    errors.push({ path: 'parent_id', code: 'not_an_organization', message: 'must be an organization' });
  }
  return errors;
}
