type JsonObject = Record<string, unknown>;

/**
 * JSON Merge Patch (RFC 7396) of one object: null removes a key, objects are merged, everything else replaces. The
 * depth of a request's JSON is limited before it gets here.
 */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  // Without a prototype's setter: a key `__proto__` is a key like any other.
  const merged = new Map(Object.entries(target));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else if (isObject(value)) {
      const before = merged.get(key);
      merged.set(key, mergePatch(isObject(before) ? before : {}, value));
    } else merged.set(key, value);
  }
  return Object.fromEntries(merged);
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
