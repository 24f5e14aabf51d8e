import type { Fault } from './fault.js';

const CACHES = 'test/isolation/caches.spec.ts';
const ANSWERS = 'src/features/rag-query/answer-cache.service.ts';
const AUTHORIZATION = 'src/core/authorization/authorization.service.ts';
const DIRECTORY = 'src/core/tenancy/tenant-directory.ts';

/** What is remembered, for whom, and for how long. */
export const CACHE_FAULTS: readonly Fault[] = [
  {
    name: 'answers-by-question-alone',
    breaks: 'Whoever repeats a question gets the answer that another tenant got.',
    edits: [
      {
        file: ANSWERS,
        find: '  find(key: Buffer): Promise<KeptAnswer | null> {\n    return this.database.run(tx => this.repository.find(tx, key));\n',
        replace:
          "  private readonly near = new Map<string, KeptAnswer>();\n\n  async find(key: Buffer): Promise<KeptAnswer | null> {\n    return this.near.get(key.toString('hex')) ?? this.database.run(tx => this.repository.find(tx, key));\n",
      },
      {
        file: ANSWERS,
        find: '    if (Buffer.byteLength(JSON.stringify(answer)) > LARGEST_ANSWER) return;\n',
        replace: "    this.near.set(key.toString('hex'), answer);\n",
      },
      { file: ANSWERS, find: '      tenant: this.context.tenant.id,\n', replace: '' },
      {
        file: ANSWERS,
        find: '      kbs: kbs.map(({ id, contentVersion, config: own }) => [id, contentVersion, own]),\n',
        replace: '      kbs: kbs.map(({ contentVersion, config: own }) => [contentVersion, own]),\n',
      },
    ],
    specs: [`${CACHES}#an answer`],
  },
  {
    name: 'answers-of-another-kb',
    breaks: 'An answer from one knowledge base is given for another.',
    edits: [
      {
        file: ANSWERS,
        find: '      kbs: kbs.map(({ id, contentVersion, config: own }) => [id, contentVersion, own]),\n',
        replace: '      kbs: kbs.map(({ contentVersion, config: own }) => [contentVersion, own]),\n',
      },
    ],
    specs: [`${CACHES}#is not given for another knowledge base`],
  },
  {
    name: 'answers-whoever-asks',
    breaks: 'Somebody to whom documents are hidden gets the answer of somebody who sees others.',
    edits: [
      {
        file: ANSWERS,
        find: "    if (!kbs.some(({ partlyHidden }) => partlyHidden)) return 'everything';\n",
        replace: "    if (kbs.length > 0) return 'everything';\n",
      },
    ],
    specs: [CACHES],
  },
  {
    name: 'answers-of-old-contents',
    breaks: 'An answer is given of documents that were deleted.',
    edits: [
      {
        file: ANSWERS,
        find: 'kbs.map(({ id, contentVersion, config: own }) => [id, contentVersion, own])',
        replace: 'kbs.map(({ id, config: own }) => [id, own])',
      },
    ],
    specs: [`${CACHES}#is made anew where`],
  },
  {
    name: 'question-vectors-of-all',
    breaks: 'That a question is answered without its model tells that another tenant has asked it.',
    edits: [
      {
        file: 'src/features/retrieval/query-vectors.service.ts',
        find: 'return `${this.context.tenant.id} ${number} ${hash}`;',
        replace: 'return `${number} ${hash}`;',
      },
    ],
    specs: [`${CACHES}#vectors of questions`],
  },
  {
    name: 'permissions-by-user-alone',
    breaks: 'What somebody may do in one tenant they may do in each.',
    edits: [
      {
        file: AUTHORIZATION,
        find: '    const known = this.loaded.get(domain)?.users.get(userId)?.decisions.get(permission);\n',
        replace: '    const known = this.everywhere.get(`${userId} ${permission}`);\n',
      },
      {
        file: AUTHORIZATION,
        find: '    decisions.set(permission, allowed);\n',
        replace:
          '    decisions.set(permission, allowed);\n    this.everywhere.set(`${userId} ${permission}`, allowed);\n',
      },
      {
        file: AUTHORIZATION,
        find: '  private readonly loaded: LRUCache<string, DomainPolicy>;\n',
        replace:
          '  private readonly loaded: LRUCache<string, DomainPolicy>;\n  private readonly everywhere = new Map<string, boolean>();\n',
      },
      {
        file: AUTHORIZATION,
        find: '    this.domains.delete(domain);\n    this.loaded.delete(domain);\n  }\n\n  private forgetAll(): void {\n',
        replace:
          '    this.domains.delete(domain);\n    this.loaded.delete(domain);\n    this.everywhere.clear();\n  }\n\n  private forgetAll(): void {\n',
      },
    ],
    specs: [
      'test/e2e/tenants-and-members.spec.ts',
      'test/isolation/foreign-ids-in-paths.spec.ts',
      'test/isolation/foreign-ids-in-fields.spec.ts',
    ],
  },
  {
    name: 'permissions-not-forgotten',
    breaks: 'A role that was taken counts until the process ends.',
    edits: [
      {
        file: AUTHORIZATION,
        find: '    this.domains.delete(domain);\n    this.loaded.delete(domain);\n  }\n\n  private forgetAll(): void {\n',
        replace: '  }\n\n  private forgetAll(): void {\n',
      },
    ],
    specs: [`${CACHES}#permissions`],
  },
  {
    name: 'settings-of-the-first-tenant',
    breaks: 'A tenant’s searches are made with another’s settings.',
    edits: [
      {
        file: 'src/features/retrieval/retrieval.service.ts',
        find: '    return (await this.directory.find(this.context.tenant.id))?.config ?? {};',
        replace:
          '    return (this.ofFirst ??= (await this.directory.find(this.context.tenant.id))?.config ?? {});\n  }\n\n  private ofFirst?: ConfigOverrides;\n\n  protected noSettings(): ConfigOverrides {\n    return {};',
      },
    ],
    specs: [`${CACHES}#effective settings`],
  },
  {
    name: 'tenant-not-forgotten',
    breaks: 'That a tenant was suspended is heard of when the process ends.',
    edits: [
      {
        file: DIRECTORY,
        find: '      if (id === null || tenant.id === id) this.byReference.delete(reference);\n',
        replace: '      if (id === null || tenant.id === null) this.byReference.delete(reference);\n',
      },
    ],
    specs: ['test/e2e/tenants-and-members.spec.ts#that are suspended refuse their members'],
  },
  {
    name: 'models-of-the-first-tenant',
    breaks: 'A tenant’s questions are answered by another’s model, with its key.',
    edits: [
      {
        file: 'src/core/models/model-catalogue.service.ts',
        find: '    return this.catalogues.get(id) ?? this.load(id);\n',
        replace: '    const [first] = this.catalogues.values();\n    return first ?? this.load(id);\n',
      },
    ],
    specs: ['test/e2e/models.spec.ts#another tenant', 'test/e2e/models.spec.ts'],
    crashes: 'a key is sealed for its tenant: what was to be answered is a 502, and the test wants an answer',
  },
  {
    name: 'features-of-the-first-tenant',
    breaks: 'A tenant’s switches hold for another.',
    edits: [
      {
        file: 'src/core/tenancy/features.service.ts',
        find: '    const tenant = await this.directory.find(this.context.tenant.id);\n',
        replace:
          '    const here = this as { first?: { features: Partial<Features> } | null };\n    const tenant = (here.first ??= await this.directory.find(this.context.tenant.id));\n',
      },
    ],
    specs: [CACHES, 'test/e2e/tenant-settings.spec.ts', 'test/e2e/invitations.spec.ts'],
  },
  {
    name: 'idempotency-key-of-others',
    breaks: 'Whoever sends another’s Idempotency-Key in a tenant gets the answer that the other one got.',
    edits: [
      {
        file: 'src/core/idempotency/idempotency-key.ts',
        find: "    .update(`${principalId}\\n${tenantId ?? ''}\\n${key}`)",
        replace: "    .update(`${principalId.slice(0, 0)}\\n${tenantId ?? ''}\\n${key}`)",
      },
    ],
    specs: ['test/e2e/idempotency.spec.ts#the same key'],
  },
  {
    name: 'kept-answer-for-whoever-sees-less',
    breaks: 'A request that is repeated is answered with what its sender may not see any more.',
    edits: [
      {
        file: 'src/core/idempotency/idempotency.service.ts',
        find: 'if (access && use.access && seesLess(use.access, access)) throw notReplayable();',
        replace: 'if (access && !use.access && seesLess(access, access)) throw notReplayable();',
      },
    ],
    specs: ['test/e2e/idempotency.spec.ts#the same key'],
  },
];
