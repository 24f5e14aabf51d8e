import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EVENT_FAMILIES, EVENT_TYPES, isEventPattern, matchesEvent } from './event-types.js';

const SRC = join(import.meta.dirname, '../..');

describe('isEventPattern', () => {
  it.each(['*', 'member.*', 'member.added', 'document.ready', 'api_token.created', 'member.roles_changed'])(
    'takes %s',
    pattern => expect(isEventPattern(pattern)).toBe(true),
  );

  it.each([
    '',
    'member',
    '*.added',
    'member.',
    'mem*',
    'member.add*',
    'member.added.*',
    'Member.added',
    'thing.done',
    '**',
    'member.added ',
    'toString.*',
  ])('refuses %j', pattern => expect(isEventPattern(pattern)).toBe(false));

  it('takes everything that is documented', () => {
    const names = [
      ...EVENT_TYPES.map(({ type }) => type),
      ...EVENT_FAMILIES.flatMap(({ family, examples }) => [`${family}.*`, ...examples]),
    ];
    expect(names.filter(name => !isEventPattern(name))).toEqual([]);
    for (const { family, examples } of EVENT_FAMILIES)
      for (const example of examples) expect(example.split('.')[0]).toBe(family);
  });
});

it.each([
  [['*'], 'member.added', true],
  [['member.*'], 'member.added', true],
  [['member.*'], 'membership.added', false],
  [['member.added'], 'member.added', true],
  [['member.added'], 'member.added_again', false],
  [['kb.*', 'document.ready'], 'document.ready', true],
  [['kb.*', 'document.ready'], 'document.failed', false],
  [[], 'document.failed', false],
])('%j means %s: %s', (patterns, type, expected) => expect(matchesEvent(patterns, type)).toBe(expected));

it('there is a family for every change of a tenant that is written down', () => {
  // Never in a tenant's chain, or never allowed: no events.
  const elsewhere = [
    'auth',
    'session',
    'password',
    'request',
    'tenant_template',
    'prices',
    'platform',
    'platform_model',
    'storage',
  ];
  const sources = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts') && !name.endsWith('.spec.ts'))
    .map(name => readFileSync(join(SRC, name), 'utf8'));
  const families = new Set(
    sources.flatMap(text =>
      [
        ...text.matchAll(/\b(?:action|type): '([a-z_]+)\.[a-z_]+'/g),
        ...text.matchAll(/\brecord(?:Alone|ForTenant|ForPlatform)?\(\s*(?:tx,\s*)?'([a-z_]+)\.[a-z_]+'/g),
      ].map(match => match[1] as string),
    ),
  );
  expect(families.size).toBeGreaterThan(10);
  expect(
    [...families].filter(family => !elsewhere.includes(family) && !isEventPattern(`${family}.*`)),
  ).toEqual([]);
});
