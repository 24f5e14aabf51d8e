import { request } from 'node:http';
import { json } from 'node:stream/consumers';
import type { Answer, Client } from './client.js';

/** An upload of which all but the last line has been sent: how fast a machine is does not say what meets what. */
export function begunUpload(client: Client, path: string, content: string) {
  const boundary = 'boundary-of-the-upload';
  const sent = request(`${client.url}/api/v1${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${client.token}`,
      'content-type': `multipart/form-data; boundary=${boundary}`,
    },
  });
  const answered = new Promise<Answer>((resolve, reject) => {
    sent.on('error', reject);
    sent.on('response', answer => {
      json(answer).then(
        body =>
          resolve({
            status: answer.statusCode ?? 0,
            headers: new Headers(answer.headers as Record<string, string>),
            body,
          }),
        reject,
      );
    });
  });
  // One that is cut off on purpose has no answer.
  answered.catch(() => undefined);
  sent.write(
    `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n${content}`,
  );
  return {
    end: () => {
      sent.end(`\r\n--${boundary}--\r\n`);
      return answered;
    },
    destroy: () => sent.destroy(),
  };
}
