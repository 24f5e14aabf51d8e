import { Problem } from './foundation/http/problem.js';
import type { VerifyServer } from './verify-api.js';

/** A route that reads, as the running server's API document tells of it. */
export interface ReadingRoute {
  method: 'GET' | 'POST';
  /** Below `/api/v1`, with parameters in braces. */
  path: string;
  /** `GET /tenants/{tenant}`. */
  key: string;
  parameters: string[];
  /** Null where it is public. */
  permission: string | null;
  /** Another one that lets in, too. */
  or: string | null;
  domain: 'platform' | 'user' | 'tenant' | null;
  /** Whether API tokens may call it. */
  tokens: boolean;
  /** Parameters of its query that take an id. */
  idQueries: string[];
  /** Names of the fields of its body. */
  fields: string[];
  /** The field of its body that asks; null where it has no body. */
  question: 'query' | 'message' | null;
  /** Whether a chat model may answer it. */
  answers: boolean;
}

interface Operation {
  parameters?: Array<{ name?: string; in?: string; schema?: { format?: string } }>;
  'x-permission'?: { permission: string | null; or?: string; domain: string | null; tokens?: boolean };
  requestBody?: { content?: Record<string, { schema?: Schema }> };
}

interface Schema {
  $ref?: string;
  properties?: Record<string, unknown>;
}

interface ApiDocument {
  info?: { version?: string };
  paths?: Record<string, Record<string, Operation>>;
  components?: { schemas?: Record<string, Schema> };
}

/** @throws Problem where the server shows no such document */
export async function readRoutes(server: VerifyServer): Promise<{ version: string; routes: ReadingRoute[] }> {
  const answer = await server.send('GET', '/openapi.json');
  const document = answer.body as ApiDocument;
  if (answer.status !== 200 || !document.paths) {
    throw new Problem(
      502,
      'no_api_document',
      `${server.url}/openapi.json is no API document (${answer.status}): the routes are read from it.`,
    );
  }
  const routes = routesOf(document);
  if (!routes.some(({ path }) => path === '/platform/isolation')) {
    throw new Problem(
      502,
      'unexpected_answer',
      `${server.url} is no Enclave that this command knows: it has no route GET /platform/isolation.`,
    );
  }
  return { version: document.info?.version ?? 'unknown', routes };
}

export function routesOf(document: ApiDocument): ReadingRoute[] {
  return Object.entries(document.paths ?? {}).flatMap(([wholePath, operations]) =>
    Object.entries(operations).flatMap(([name, operation]): ReadingRoute[] => {
      const access = operation['x-permission'];
      const method = name.toUpperCase();
      if (!access || !wholePath.startsWith('/api/v1/')) return [];
      const fields = fieldsOf(document, operation);
      const question = (['query', 'message'] as const).find(field => field in fields) ?? null;
      // Whatever asks questions reads, though it is a POST. It writes nothing but a chat of the one who asks.
      const asks = method === 'POST' && access.permission === 'query:run' && question !== null;
      if (method !== 'GET' && !asks) return [];
      const path = wholePath.slice('/api/v1'.length);
      return [
        {
          method,
          path,
          key: `${method} ${path}`,
          parameters: [...path.matchAll(/\{(\w+)\}/g)].map(match => match[1] as string),
          permission: access.permission,
          or: access.or ?? null,
          domain: domainOf(access.domain),
          tokens: access.tokens ?? false,
          idQueries: (operation.parameters ?? [])
            .filter(parameter => parameter.in === 'query' && parameter.schema?.format === 'uuid')
            .map(parameter => parameter.name ?? ''),
          fields: Object.keys(fields),
          question: asks ? question : null,
          answers: asks && 'max_tokens' in fields,
        },
      ];
    }),
  );
}

/** Of the body. */
function fieldsOf(document: ApiDocument, { requestBody }: Operation): Record<string, unknown> {
  const schema = requestBody?.content?.['application/json']?.schema;
  const named = schema?.$ref?.split('/').at(-1);
  return (named === undefined ? schema : document.components?.schemas?.[named])?.properties ?? {};
}

function domainOf(domain: string | null): ReadingRoute['domain'] {
  const kind = domain?.split('_')[0];
  return kind === 'platform' || kind === 'user' || kind === 'tenant' ? kind : null;
}

/** The path with these ids in it. What none is known for stays as it is. */
export const pathOf = (route: ReadingRoute, ids: Readonly<Record<string, string>>): string =>
  route.path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(ids[name] ?? 'missing'));

/** Tokens of an answer: enough to see that there is one. */
const SHORT_ANSWER = 32;

/** What a route that asks is asked; undefined for every other. */
export function bodyOf(
  { question, answers }: ReadingRoute,
  text: string,
  fields: Record<string, unknown> = {},
): Record<string, unknown> | undefined {
  if (question === null) return undefined;
  return { [question]: text, mode: 'keyword', ...(answers && { max_tokens: SHORT_ANSWER }), ...fields };
}
