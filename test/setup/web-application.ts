import { type TestApplication, startTestApplication } from './application.js';
import { type ModelServer, startModelServer } from './model-server.js';
import { type WebServer, startWebServer } from './web-server.js';

/** An application with a tenant `acme`, a web site that it may ask, and a model that makes vectors. */
export interface WebApplication {
  app: TestApplication;
  web: WebServer;
  model: ModelServer;
  close(): Promise<void>;
}

export async function startWebApplication(settings: Record<string, string>): Promise<WebApplication> {
  const model = await startModelServer();
  const web = await startWebServer();
  const app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    WORKER_CONCURRENCY: '4',
    OUTBOUND_ALLOWED_HOSTS: web.host,
    ...settings,
  });
  await app.createTenant('acme');
  return {
    app,
    web,
    model,
    async close() {
      await app.close();
      await web.close();
      await model.close();
    },
  };
}
