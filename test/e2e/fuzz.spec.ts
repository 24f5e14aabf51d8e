import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADMIN, type TestApplication, startTestApplication } from '../setup/application.js';
import { fuzz, summaryOf } from '../setup/fuzz/run.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';

/** Of another day's requests: FUZZ_SEED=1 FUZZ_REQUESTS=5000 npx vitest run test/e2e/fuzz.spec.ts */
const SEED = Number(process.env['FUZZ_SEED'] ?? 20_261_122);
const REQUESTS = Number(process.env['FUZZ_REQUESTS'] ?? 1_000);
const ONLY = process.env['FUZZ_ONLY'];

let app: TestApplication;
let model: ModelServer;

beforeAll(async () => {
  model = await startModelServer({ dimensions: 16 });
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub',
  });
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});

describe('requests that the API document does not keep from being sent', () => {
  it(
    'are answered as it says, and tell nothing from inside',
    async () => {
      const result = await fuzz({
        url: app.application.url as string,
        admin: ADMIN,
        requests: REQUESTS,
        seed: SEED,
        secrets: new Map([
          [app.env.dataDir, 'the data folder'],
          [process.cwd(), 'the folder of the project'],
        ]),
        ...(ONLY && { only: key => key.includes(ONLY) }),
      });
      const { requests, seed, classes, operations, slowest } = result;
      console.log(`fuzz: ${JSON.stringify({ requests, seed, ...classes, operations, slowest })}`);
      expect(summaryOf(result).join('\n\n'), `seed ${seed}`).toBe('');
      expect(requests).toBe(REQUESTS);
      // Requests that are all refused at the door would try nothing behind it.
      expect(classes['2xx'] ?? 0).toBeGreaterThan(requests / 6);
      // An operation whose every request is refused is tried as far as its door; of five requests each, some are.
      expect(operations.succeeded, result.refused.join('\n')).toBeGreaterThan(operations.asked / 2);
    },
    REQUESTS * 100 + 60_000,
  );
});
