import { type ApiDocument, operationsOf } from '../setup/fuzz/api-document.js';

/** Dotted paths of the fields that take a UUID, by route (`METHOD /path` as the router writes it), of every body. */
export function requestIdFields(api: ApiDocument): Map<string, string[]> {
  return new Map(
    operationsOf(api).flatMap(({ key, body }): Array<[string, string[]]> => {
      const [schema] = Object.values(body);
      return schema ? [[key, [...new Set(idFields(api, schema))]]] : [];
    }),
  );
}

/** Routes with the parameters of their queries that take a UUID. */
export function queryIdParameters(api: ApiDocument): Array<[key: string, name: string]> {
  return operationsOf(api).flatMap(({ key, parameters }) =>
    parameters
      .filter(parameter => parameter.in === 'query' && idFields(api, parameter.schema).length > 0)
      .map(({ name }): [string, string] => [key, name]),
  );
}

/** A field that takes a string. */
export interface StringField {
  /** `METHOD /path`, as the router writes it. */
  key: string;
  /** Of bodies a dotted path (`[]` where it is a list), of queries with a `?`. */
  path: string;
  /** The last part of it. */
  name: string;
}

/** Strings of no format of every body that is JSON, and of every query. */
export function stringFields(api: ApiDocument): StringField[] {
  return operationsOf(api).flatMap(({ key, body, parameters }) => {
    const ofBody = stringPaths(api, body['application/json']);
    const ofQuery = parameters
      .filter(({ in: place, schema }) => place === 'query' && stringPaths(api, schema).length > 0)
      .map(({ name }) => `?${name}`);
    return [...new Set([...ofBody, ...ofQuery])].map(found => ({
      key,
      path: found,
      name: (found.split('.').at(-1) as string).replace(/[?[\]]/g, ''),
    }));
  });
}

/** @param above references that led here: free JSON refers to itself */
function stringPaths(api: ApiDocument, schema: any, path = '', above: string[] = []): string[] {
  if (typeof schema !== 'object' || schema === null || above.includes(schema.$ref)) return [];
  if (schema.$ref) {
    const name = schema.$ref.split('/').at(-1);
    return stringPaths(api, api.components.schemas[name], path, [...above, schema.$ref]);
  }
  if (schema.type === 'string') return schema.format || schema.enum || schema.const ? [] : [path];
  const alternatives = [...(schema.anyOf ?? []), ...(schema.allOf ?? []), ...(schema.oneOf ?? [])];
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, field]) =>
      stringPaths(api, field, path ? `${path}.${name}` : name, above),
    ),
    ...stringPaths(api, schema.items, `${path}[]`, above),
    ...alternatives.flatMap(alternative => stringPaths(api, alternative, path, above)),
  ];
}

/** @param above references that led here: free JSON refers to itself */
function idFields(api: ApiDocument, schema: any, path = '', above: string[] = []): string[] {
  if (typeof schema !== 'object' || schema === null || above.includes(schema.$ref)) return [];
  if (schema.$ref) {
    const name = schema.$ref.split('/').at(-1);
    return idFields(api, api.components.schemas[name], path, [...above, schema.$ref]);
  }
  if (schema.format === 'uuid') return [path];
  const alternatives = [
    schema.items,
    ...(schema.anyOf ?? []),
    ...(schema.allOf ?? []),
    ...(schema.oneOf ?? []),
  ];
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, field]) =>
      idFields(api, field, path ? `${path}.${name}` : name, above),
    ),
    ...alternatives.flatMap(alternative => idFields(api, alternative, path, above)),
  ];
}
