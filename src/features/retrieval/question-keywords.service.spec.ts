import { expect, it, vi } from 'vitest';
import type { CreditsService } from '../../core/credits/credits.service.js';
import type { ModelsService } from '../../core/models/models.service.js';
import type { QuotasService } from '../../core/quotas/quotas.service.js';
import type { TenantContext } from '../../core/tenancy/tenant-context.js';
import type { UsageService } from '../../core/usage/usage.service.js';
import { QuestionKeywordsService } from './question-keywords.service.js';

it('remembers keywords, and asks again for what could not be read', async () => {
  const replies = ['Certainly!', '{"high_level_keywords": ["trade"], "low_level_keywords": ["Acme"]}'];
  const complete = vi.fn(async () => ({
    text: replies.shift(),
    model: 'chat',
    promptTokens: 1,
    completionTokens: 1,
  }));
  const service = new QuestionKeywordsService(
    { tenant: { id: 'a tenant' } } as TenantContext,
    { chat: async () => ({ name: 'chat', complete }) } as unknown as ModelsService,
    {
      spend: async (_: unknown, work: (meter: unknown) => Promise<unknown>) => ({
        result: await work({ used: () => undefined }),
        credits: 5,
      }),
    } as unknown as CreditsService,
    {
      requireLlmTokens: async () => undefined,
      countLlmTokens: async () => undefined,
    } as unknown as QuotasService,
    { note: () => undefined } as unknown as UsageService,
  );
  const ask = () =>
    service.of('Who trades?', { graph_model: null, llm_model: null }, new AbortController().signal);
  const keywords = { themes: ['trade'], names: ['Acme'] };
  expect(await ask()).toEqual({ keywords: null, credits: 5 });
  expect(await ask()).toEqual({ keywords, credits: 5 });
  expect(await ask()).toEqual({ keywords, credits: 0 });
  expect(complete).toHaveBeenCalledTimes(2);
});
