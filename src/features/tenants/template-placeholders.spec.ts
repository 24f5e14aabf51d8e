import { describe, expect, it } from 'vitest';
import { fillPlaceholders, hasPlaceholder } from './template-placeholders.js';

const values = new Map([
  ['TENANT_NAME', 'acme'],
  ['EMAIL', '${TENANT_NAME}@example.com'],
]);

function fill(value: unknown): [unknown, string[]] {
  const missing = new Set<string>();
  return [fillPlaceholders(value, values, missing), [...missing]];
}

describe('fillPlaceholders', () => {
  it('fills every string, however deep, and leaves all else alone', () => {
    const value = { a: ['x ${TENANT_NAME} y', 1, null, true], b: { c: '${TENANT_NAME}/${TENANT_NAME}' } };
    expect(fill(value)).toEqual([{ a: ['x acme y', 1, null, true], b: { c: 'acme/acme' } }, []]);
  });

  it('names each missing one, once', () => {
    expect(fill(['${NOBODY}', '${NOBODY} ${NOTHING}'])[1]).toEqual(['NOBODY', 'NOTHING']);
  });

  it('does not look through the values again', () => {
    expect(fill('${EMAIL}')).toEqual(['${TENANT_NAME}@example.com', []]);
  });

  it('takes what is doubled, or no name, for itself', () => {
    expect(fill('$${NOBODY} ${lower} $TENANT_NAME {TENANT_NAME}')).toEqual([
      '${NOBODY} ${lower} $TENANT_NAME {TENANT_NAME}',
      [],
    ]);
    expect(hasPlaceholder('$${NOBODY}')).toBe(false);
    expect(hasPlaceholder('a ${NOBODY}')).toBe(true);
    expect(hasPlaceholder(5)).toBe(false);
  });

  it('reaches no prototype', () => {
    const [filled] = fill(JSON.parse('{"__proto__": {"owner": "${TENANT_NAME}"}}'));
    expect((filled as { owner?: string }).owner).toBeUndefined();
  });
});
