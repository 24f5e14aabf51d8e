import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;
let paths: Record<string, string>;

beforeAll(async () => {
  app = await startTestApplication();
  const { name } = await app.createTenant('acme');
  const tenant = `/tenants/${name}`;
  const document = await app.addText(name, 'A text that two people edit.');
  await expectStatus(
    201,
    app.admin.post(`${tenant}/roles`, { name: 'support', permissions: ['tenant:read'] }),
  );
  const group = await expectStatus(201, app.admin.post(`${tenant}/groups`, { name: 'Support' }));
  await expectStatus(201, app.admin.post('/tenant-templates', { name: 'small' }));
  paths = {
    tenant,
    kb: `${tenant}/kbs/docs`,
    document: `${tenant}/kbs/docs/documents/${document.id}`,
    role: `${tenant}/roles/support`,
    group: `${tenant}/groups/${group.body.id}`,
    template: '/tenant-templates/small',
  };
});
afterAll(() => app?.close());

/** A template is only ever replaced; everything else has a field of its own to change. */
function change(what: string, text: string, tag: string | null): Promise<Answer> {
  const client = tag === null ? app.admin : app.admin.withHeaders({ 'if-match': tag });
  const field = what === 'document' ? 'title' : 'description';
  return client.send(what === 'template' ? 'PUT' : 'PATCH', paths[what] as string, { [field]: text });
}

const tagOf = async (what: string): Promise<string> => {
  const { headers } = await expectStatus(200, app.admin.get(paths[what] as string));
  return headers.get('etag') as string;
};

describe.each(['tenant', 'kb', 'document', 'role', 'group', 'template'])(
  'two people who edit one %s',
  what => {
    it('do not overwrite each other', async () => {
      const tag = await tagOf(what);
      expect(tag).toMatch(/^"\w+"$/);
      await sleep(2);
      const first = await expectStatus(200, change(what, 'of the first', tag));
      expectProblem(await change(what, 'of the second', tag), 412, 'changed_meanwhile');
      expect(JSON.stringify((await app.admin.get(paths[what] as string)).body)).toContain('of the first');
      // The answer to a change has the tag to go on with.
      expect(first.headers.get('etag')).toBe(await tagOf(what));
      await expectStatus(200, change(what, 'again of the first', first.headers.get('etag')));
    });

    it('do not when they do it at once, either', async () => {
      const tag = await tagOf(what);
      await sleep(2);
      const answers = await Promise.all(['a', 'b', 'c', 'd'].map(text => change(what, `of ${text}`, tag)));
      expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 412, 412, 412]);
    });

    it('may say that they do not care', async () => {
      await expectStatus(200, change(what, 'without a tag', null));
      await expectStatus(200, change(what, 'with any', '*'));
      await expectStatus(200, change(what, 'with one of several', `"other", ${await tagOf(what)}`));
      expectProblem(await change(what, 'with nonsense', 'nonsense'), 412, 'changed_meanwhile');
    });
  },
);
