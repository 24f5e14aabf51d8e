/** An answer of the API. */
export interface Answer<Body = any> {
  status: number;
  headers: Headers;
  body: Body;
}

/** Speaks to the API as one user, or as nobody. */
export class Client {
  constructor(
    readonly url: string,
    readonly token: string | null = null,
    private readonly headers: Record<string, string> = {},
  ) {}

  withToken(token: string | null): Client {
    return new Client(this.url, token, this.headers);
  }

  withHeaders(headers: Record<string, string>): Client {
    return new Client(this.url, this.token, { ...this.headers, ...headers });
  }

  get(path: string): Promise<Answer> {
    return this.send('GET', path);
  }

  post(path: string, body?: unknown): Promise<Answer> {
    return this.send('POST', path, body);
  }

  put(path: string, body?: unknown): Promise<Answer> {
    return this.send('PUT', path, body);
  }

  patch(path: string, body?: unknown): Promise<Answer> {
    return this.send('PATCH', path, body);
  }

  delete(path: string): Promise<Answer> {
    return this.send('DELETE', path);
  }

  /** @param path below `/api/v1`, or the whole path where it begins with `//` */
  async send(method: string, path: string, body?: unknown): Promise<Answer> {
    const raw = body instanceof FormData || typeof body === 'string' || body instanceof Uint8Array;
    const response = await fetch(
      path.startsWith('//') ? `${this.url}${path.slice(1)}` : `${this.url}/api/v1${path}`,
      {
        method,
        headers: {
          ...(this.token && { authorization: `Bearer ${this.token}` }),
          ...(body !== undefined && !raw && { 'content-type': 'application/json' }),
          ...this.headers,
        },
        body: body === undefined ? undefined : raw ? (body as RequestInit['body']) : JSON.stringify(body),
      },
    );
    const text = await response.text();
    const json = /\bjson\b/.test(response.headers.get('content-type') ?? '');
    return {
      status: response.status,
      headers: response.headers,
      body: json && text !== '' ? JSON.parse(text) : text,
    };
  }
}
