
import { it } from 'vitest';
import { startTestApplication } from '../setup/application.js';
import { startModelServer } from '../setup/model-server.js';
it('t', async () => {
  const t0 = Date.now(); const log = (w: string) => console.log(w, Date.now() - t0);
  const model = await startModelServer();
  const app = await startTestApplication({ EMBEDDING_BASE_URL: model.url, EMBEDDING_MODEL: 'first' }); log('started');
  await app.createTenant('cycles'); 
  await app.addText('cycles', 'One two three.'); log('added');
  await app.application.close(); log('closed');
  await app.restart({ EMBEDDING_MODEL: 'second' }); log('restarted');
  const d = await app.addText('cycles', 'Four five six.'); log('added ' + d.status);
  await app.close(); log('closed'); await model.close(); log('model closed');
});
