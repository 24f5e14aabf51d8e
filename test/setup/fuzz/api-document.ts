/** What the fuzzer reads of the OpenAPI 3.0 document. */
export interface ApiDocument {
  paths: Record<string, Record<string, OperationObject>>;
  components: { schemas: Record<string, Schema>; responses?: Record<string, ResponseObject> };
}

/** A schema object as zod and the decorators write it: OpenAPI's dialect, with `nullable`. */
export interface Schema {
  $ref?: string;
  type?: string;
  format?: string;
  nullable?: boolean;
  enum?: unknown[];
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean | number;
  exclusiveMaximum?: boolean | number;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  example?: unknown;
}

export interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header' | 'cookie';
  required?: boolean;
  schema?: Schema;
}

export interface ResponseObject {
  $ref?: string;
  content?: Record<string, { schema?: Schema }>;
}

interface OperationObject {
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema?: Schema }> };
  responses: Record<string, ResponseObject>;
  'x-permission': { permission: string | null; domain: string | null };
}

/** One route, as the document describes it. */
export interface Operation {
  method: string;
  /** With `{name}` for what varies. */
  path: string;
  /** As `EXAMPLE_BODIES` and the snapshot of routes name it: `GET /tenants/:tenant`. */
  key: string;
  parameters: Parameter[];
  /** By content type. */
  body: Record<string, Schema>;
  responses: Record<string, ResponseObject>;
  permission: string | null;
}

export function operationsOf(api: ApiDocument): Operation[] {
  return Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      key: `${method.toUpperCase()} ${path.replace('/api/v1', '').replace(/\{(\w+)\}/g, ':$1')}`,
      parameters: operation.parameters ?? [],
      body: Object.fromEntries(
        Object.entries(operation.requestBody?.content ?? {}).map(([type, { schema }]) => [
          type,
          schema ?? {},
        ]),
      ),
      responses: operation.responses,
      permission: operation['x-permission'].permission,
    })),
  );
}

/** What a reference points to; anything else as it is. */
export function resolve<T extends { $ref?: string }>(api: ApiDocument, value: T): T {
  if (!value.$ref) return value;
  const [, , kind, name] = value.$ref.split('/') as [string, string, 'schemas' | 'responses', string];
  const target = api.components[kind]?.[name];
  if (!target) throw new Error(`${value.$ref} points to nothing.`);
  return resolve(api, target as T);
}
