import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { settingNames } from '../src/foundation/config/env.js';

interface Service {
  image: string;
  user?: string;
  read_only?: boolean;
  cap_drop?: string[];
  cap_add?: string[];
  privileged?: boolean;
  security_opt?: string[];
  pids_limit?: number;
  mem_limit?: string;
  network_mode?: string;
  ports?: string[];
  volumes?: string[];
  environment?: Record<string, string | null>;
}

const text = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8');
// The parser that the API document's library has.
const yaml = createRequire(createRequire(import.meta.url).resolve('@nestjs/swagger'))('js-yaml') as {
  load(text: string, options: object): unknown;
  YAML11_SCHEMA: unknown;
};
const { services } = yaml.load(text('docker-compose.yml'), { schema: yaml.YAML11_SCHEMA }) as {
  services: Record<string, Service>;
};

describe.each(Object.entries(services))('the container %s', (name, service) => {
  it('may write into its volumes alone, and gains no privilege', () => {
    expect(service).toMatchObject({
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
      pids_limit: expect.any(Number),
      mem_limit: expect.any(String),
    });
    expect(service).not.toHaveProperty('cap_add');
    expect(service).not.toHaveProperty('privileged');
    expect(service).not.toHaveProperty('network_mode');
    for (const volume of service.volumes ?? []) expect(volume).toMatch(/^[a-z]+:\/\w/);
  });

  it('is of an image whose version is named in full', () => {
    const tag = service.image.split(':').slice(1).join(':');
    expect(tag).toMatch(/^(\$\{ENCLAVE_VERSION:-local\}|v?\d+\.\d+\.\d+(-pg17)?|RELEASE\.[\dTZ-]+)$/);
  });

  it('is reached from this machine alone', () => {
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  it('of ours is nobody’s who may do anything, and knows the superuser for migrations only', () => {
    if (!service.image.startsWith('enclave')) return;
    expect(service.user).toBe('1000:1000');
    expect('DATABASE_ADMIN_URL' in (service.environment ?? {})).toBe(name === 'migrate');
  });
});

it('no secret has a default', () => {
  const compose = text('docker-compose.yml');
  const secrets = [...compose.matchAll(/\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*)(:[-?])?([^}]*)\}/g)];
  expect(secrets.length).toBeGreaterThan(8);
  for (const [all, name, how] of secrets) {
    // Said to be required elsewhere, or another required one in its place.
    if (how === ':-') expect(all).toMatch(/:-(\$\{|enclave)/);
    expect(compose, name).toMatch(new RegExp(`\\$\\{${name}(:\\?|:-\\$\\{)`));
  }
});

it('the image is of versions named in full, runs as nobody’s superuser, and holds what is needed', () => {
  const dockerfile = text('Dockerfile');
  const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(match => match[1]);
  expect(new Set(bases)).toEqual(new Set(['node:22.21.1-bookworm-slim']));
  expect(dockerfile.match(/^USER .*$/gm)).toEqual(['USER 1000:1000']);
  expect(dockerfile).toMatch(/npm prune --omit=dev/);
  expect(text('.dockerignore')).toMatch(/^\*$/m);
});

describe('SECURITY.md', () => {
  const security = text('SECURITY.md');
  const named = (pattern: RegExp) => [...new Set(security.match(pattern) ?? [])];

  it('names tests that are there', () => {
    // `folder/one`, `another` in a cell of the table: the second stands in the same folder.
    const cells = [...security.matchAll(/\| ([^|\n]*`(?:test|src)\/[^|\n]*)\|\n/g)].map(
      match => match[1] as string,
    );
    expect(cells.length).toBeGreaterThan(15);
    for (const cell of cells) {
      let folder = '';
      for (const [, path = ''] of cell.matchAll(/`([\w./-]+)`/g)) {
        if (path.includes('/')) folder = path.replace(/\/[^/]*$/, '');
        const full = path.includes('/') ? path : `${folder}/${path}`;
        const there =
          existsSync(new URL(`../${full}.spec.ts`, import.meta.url)) ||
          existsSync(new URL(`../${full}`, import.meta.url));
        expect(there, full).toBe(true);
      }
    }
  });

  it('names commands, files and settings that are there', () => {
    const { scripts } = JSON.parse(text('package.json')) as { scripts: Record<string, string> };
    for (const command of named(/(?<=npm run )[\w:]+/g)) expect(scripts, command).toHaveProperty([command]);
    const settings = [...settingNames, 'NODE_ENV', 'AUDIT_REQUIRED'];
    for (const name of named(/(?<=`)[A-Z]+(?:_[A-Z]+)+(?=[=`])/g)) expect(settings, name).toContain(name);
    const routes = text('test/__snapshots__/routes.txt');
    for (const route of named(/(?<=`)(?:GET|POST) \/[\w/.-]+(?=`)/g)) {
      const [method = '', path = ''] = route.split(' ');
      expect(routes).toMatch(new RegExp(`^${method} +${path.replace('/api/v1', '')} `, 'm'));
    }
  });
});
