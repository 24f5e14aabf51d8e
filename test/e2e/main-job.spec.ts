import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, startTestApplication } from '../setup/application.js';

describe('two tenants ask their own documents', () => {
  let app: TestApplication;

  beforeAll(async () => {
    app = await startTestApplication();
    await app.createTenant('cycles');
    await app.createTenant('clinic');
    await app.addText(
      'cycles',
      '# Warranty\n\nFrames carry a warranty of ten years. Batteries are covered for two years.',
    );
    await app.addText(
      'clinic',
      '# Visits\n\nVisitors may come between nine and eleven. The clinic is closed on Sunday.',
    );
  });
  afterAll(() => app?.close());

  it('answers from the tenant’s documents, with citations', async () => {
    const { status, body } = await app.admin.post('/tenants/cycles/kbs/docs/query', {
      query: 'How long are batteries covered?',
    });
    expect(status).toBe(200);
    expect(body.answered).toBe(true);
    expect(body.answer).toContain('Batteries are covered for two years. [1]');
    expect(body.citations[0]).toMatchObject({
      index: 1,
      title: 'Warranty',
      quote: 'Batteries are covered for two years.',
    });
  });

  it('says so when the documents hold no answer', async () => {
    const { body } = await app.admin.post('/tenants/clinic/kbs/docs/query', {
      query: 'How long are batteries covered?',
    });
    expect(body).toMatchObject({ answered: false, citations: [] });
  });

  it('keeps documents over a restart', async () => {
    await app.restart();
    const { body } = await app.admin.post('/tenants/clinic/kbs/docs/search', { query: 'visitors' });
    expect(body.passages).toHaveLength(1);
    expect(body.passages[0].text).toContain('Visitors may come');
  });
});
