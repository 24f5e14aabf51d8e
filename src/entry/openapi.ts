import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import { API_KEY_SECURITY } from '../core/authorization/require-permission.js';
import { problemResponse } from '../foundation/http/api-problems.js';
import type { Env } from '../foundation/config/env.js';
import { VERSION } from './health/version.js';

/** Where people read the API document. */
export const API_PAGE = '/docs';

export function createApiDocument(nest: NestFastifyApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setTitle('Enclave')
    .setDescription(
      'Retrieval-augmented generation for many tenants, kept apart by PostgreSQL. Sign in at `POST /auth/login` and ' +
        'send the access token as `Authorization: Bearer …`; programs send an API token the same way, or as `X-API-Key`. ' +
        'Errors are problem documents (RFC 9457). Each operation ' +
        'names the permission that it needs, and in which domain, as `x-permission`.',
    )
    .setVersion(VERSION)
    .addBearerAuth({
      type: 'http',
      scheme: 'bearer',
      bearerFormat: 'JWT',
      description: 'An access token of `POST /auth/login`, or an API token (`rk_…`).',
    })
    .addApiKey(
      {
        type: 'apiKey',
        in: 'header',
        name: 'X-API-Key',
        description: 'An API token: `rk_live_…`, `rk_test_…`.',
      },
      API_KEY_SECURITY,
    )
    .build();
  return withCommonProblems(withIdempotencyKeys(withPermissions(SwaggerModule.createDocument(nest, config))));
}

interface Guarded {
  description?: string;
  'x-permission'?: { permission: string | null; or?: string; domain: string | null };
}

/** Says in each operation's text, for people, what `x-permission` says for programs. */
function withPermissions(document: OpenAPIObject): OpenAPIObject {
  for (const operation of Object.values(document.paths).flatMap((path): Guarded[] => Object.values(path))) {
    const access = operation['x-permission'];
    if (!access) continue;
    const permission = [access.permission, access.or]
      .flatMap(name => (name ? `\`${name}\`` : []))
      .join(' or ');
    const needed = permission ? `Needs ${permission} in \`${access.domain}\`.` : 'Public.';
    operation.description = [operation.description, needed].filter(text => text).join('\n\n');
  }
  return document;
}

const IDEMPOTENCY_KEY = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description:
    'Makes it safe to send this again: the same key with the same request happens once, and is answered what it was ' +
    'answered first, with `Idempotency-Replayed: true`, for 24 hours. With another request it is a 422 ' +
    '(`idempotency_key_reused`), while the first one runs a 409 (`idempotency_in_progress`). Keys belong to whoever ' +
    'signed in, or to the API token, and to the tenant. What failed may be sent again with its key. Files count by ' +
    'the length of the body alone. Answers above 1 MB and streams are not kept: 409 (`idempotency_not_replayable`).',
  schema: { type: 'string', minLength: 1, maxLength: 255, pattern: '^[\\x21-\\x7e]+$' },
  example: '8e03978e-40d5-43dd-bc93-6894a57f9324',
} as const;

interface Postable {
  post?: Guarded & { parameters?: Array<{ name?: string }> };
}

/** Whoever has signed in may send any POST with a key. */
function withIdempotencyKeys(document: OpenAPIObject): OpenAPIObject {
  for (const { post } of Object.values(document.paths) as Postable[]) {
    if (!post?.['x-permission']?.permission) continue;
    const others = (post.parameters ?? []).filter(({ name }) => name !== IDEMPOTENCY_KEY.name);
    post.parameters = [...others, IDEMPOTENCY_KEY];
  }
  return document;
}

/** What any request may meet on its way to its route, and any route where something that it needs is away. */
const COMMON_PROBLEMS: Record<number, { name: string; description: string }> = {
  400: { name: 'Malformed', description: 'What was sent is no valid request, or contradicts itself' },
  404: {
    name: 'NotFound',
    description: 'What the path or the request names is not there, or not for the caller',
  },
  409: {
    name: 'Conflict',
    description: 'A request with this `Idempotency-Key` is running, or is not replayable',
  },
  413: { name: 'TooLarge', description: 'The body is larger than is taken' },
  415: { name: 'UnsupportedType', description: 'The body is of a type that is not taken' },
  422: { name: 'Invalid', description: 'A header has no valid value, or a key was used for another request' },
  429: { name: 'RateLimited', description: '`Retry-After` says when to try again' },
  503: {
    name: 'Unavailable',
    description: 'Something that is needed is away; `Retry-After` says when to try again',
  },
};

interface Answering extends Guarded {
  parameters?: Array<{ in?: string }>;
  requestBody?: unknown;
  responses: Record<string, unknown>;
}

/** Documents what no controller says of its routes, because it is so of all of them, as references. */
function withCommonProblems(document: OpenAPIObject): OpenAPIObject {
  document.components ??= {};
  document.components.responses = Object.fromEntries(
    Object.entries(COMMON_PROBLEMS).map(([status, { name, description }]) => [
      name,
      { ...problemResponse(Number(status)), description },
    ]),
  );
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods as Record<string, Answering>)) {
      for (const status of commonStatuses(path, method, operation)) {
        const { name } = COMMON_PROBLEMS[status] as { name: string };
        operation.responses[status] ??= { $ref: `#/components/responses/${name}` };
      }
    }
  }
  return document;
}

function commonStatuses(path: string, method: string, operation: Answering): number[] {
  const signedIn = operation['x-permission']?.permission !== null;
  const unlimited = path.includes('/health') || path.endsWith('/version');
  return [
    400,
    ...(signedIn || path.includes('{') ? [404] : []),
    ...(signedIn && method === 'post' ? [409, 422] : []),
    ...(method === 'get' ? [] : [413, 415]),
    ...(unlimited ? [] : [429]),
    503,
  ];
}

/** Swagger UI at `/docs`, the document at `/openapi.json`. */
export function serveApiDocument(nest: NestFastifyApplication, env: Pick<Env, 'production'>): void {
  SwaggerModule.setup(API_PAGE, nest, () => createApiDocument(nest), {
    jsonDocumentUrl: 'openapi.json',
    yamlDocumentUrl: 'openapi.yaml',
    customSiteTitle: 'Enclave API',
    swaggerOptions: {
      // A credential that a browser keeps is one that it can lose.
      persistAuthorization: !env.production,
      displayRequestDuration: true,
      tagsSorter: 'alpha',
      // Else the page would show the document to a service of somebody else.
      validatorUrl: null,
    },
  });
}
