/** What ends the demo with a sentence instead of a stack trace. */
export class DemoError extends Error {}

/** The API, spoken to as one person, or as nobody. */
export class Api {
  /**
   * @param {string} url of the server, without a path
   * @param {string | null} token
   */
  constructor(url, token = null) {
    this.url = url;
    this.token = token;
  }

  /** Signs in or registers. @returns {Promise<Api>} the API as that person */
  async as(route, credentials) {
    const { access_token: token } = await this.post(`/auth/${route}`, credentials);
    return new Api(this.url, token);
  }

  get(path) {
    return this.expect('GET', path);
  }

  post(path, body) {
    return this.expect('POST', path, body);
  }

  delete(path) {
    return this.expect('DELETE', path);
  }

  /** @returns {Promise<any>} the body. @throws {DemoError} for an answer that is an error */
  async expect(method, path, body) {
    const answer = await this.send(method, path, body);
    if (answer.status < 400) return answer.body;
    throw new DemoError(
      `${method} ${path} was answered with ${answer.status}: ${answer.body?.detail ?? 'no reason given'}`,
    );
  }

  /** @param path below /api/v1 @returns {Promise<{ status: number, body: any }>} of any answer */
  async send(method, path, body) {
    const isForm = body instanceof FormData;
    let response;
    try {
      response = await fetch(`${this.url}/api/v1${path}`, {
        method,
        headers: {
          ...(this.token && { authorization: `Bearer ${this.token}` }),
          ...(body && !isForm && { 'content-type': 'application/json' }),
        },
        body: body && !isForm ? JSON.stringify(body) : body,
      });
    } catch (error) {
      throw new DemoError(`${this.url} does not answer: ${error.cause?.message ?? error.message}`);
    }
    const isJson = /json/.test(response.headers.get('content-type') ?? '');
    return { status: response.status, body: isJson ? await response.json() : await response.text() };
  }
}
