import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a page answers with: text as HTML, or whatever the handler does. */
export type Page = string | ((request: IncomingMessage, response: ServerResponse) => unknown);

/** A web site for tests. Its pages may be changed at any time; what is none is a 404. */
export interface WebServer {
  /** Without a path. */
  url: string;
  host: string;
  pages: Map<string, Page>;
  /** Paths that were asked for, in their order. */
  requests: string[];
  close(): Promise<void>;
}

export async function startWebServer(): Promise<WebServer> {
  const pages = new Map<string, Page>();
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? '/';
    requests.push(path);
    const page = pages.get(path);
    if (page === undefined) response.writeHead(404).end();
    else if (typeof page === 'string') response.writeHead(200, { 'content-type': 'text/html' }).end(page);
    else void page(request, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    pages,
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}

/** A page of a web site, whose navigation is not what it says. */
export const htmlPage = (title: string, text: string, head = ''): string =>
  `<!doctype html><html><head><title>${title}</title>${head}</head><body>` +
  `<nav><a href="/">Home</a> <a href="/shop">Shop</a></nav>` +
  `<main><article><h1>${title}</h1><p>${text}</p></article></main><footer>Imprint</footer></body></html>`;
