import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import { VERSION } from './health/version.js';

export function createApiDocument(nest: NestFastifyApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setTitle('Enclave')
    .setDescription(
      'Retrieval-augmented generation for many tenants, kept apart by PostgreSQL. Sign in at `POST /auth/login` and ' +
        'send the access token as `Authorization: Bearer …`. Errors are problem documents (RFC 9457). Each operation ' +
        'names the permission that it needs, and in which domain, as `x-permission`.',
    )
    .setVersion(VERSION)
    .addBearerAuth({ type: 'http', scheme: 'bearer', bearerFormat: 'JWT' })
    .build();
  return withPermissions(SwaggerModule.createDocument(nest, config));
}

interface Guarded {
  description?: string;
  'x-permission'?: { permission: string | null; domain: string | null };
}

/** Says in each operation's text, for people, what `x-permission` says for programs. */
function withPermissions(document: OpenAPIObject): OpenAPIObject {
  for (const operation of Object.values(document.paths).flatMap((path): Guarded[] => Object.values(path))) {
    const access = operation['x-permission'];
    if (!access) continue;
    const needed = access.permission ? `Needs \`${access.permission}\` in \`${access.domain}\`.` : 'Public.';
    operation.description = [operation.description, needed].filter(text => text).join('\n\n');
  }
  return document;
}

/** Swagger UI at `/docs`, the document at `/openapi.json`. */
export function serveApiDocument(nest: NestFastifyApplication): void {
  SwaggerModule.setup('docs', nest, () => createApiDocument(nest), {
    jsonDocumentUrl: 'openapi.json',
    yamlDocumentUrl: 'openapi.yaml',
    customSiteTitle: 'Enclave API',
    swaggerOptions: { persistAuthorization: true, displayRequestDuration: true, tagsSorter: 'alpha' },
  });
}
