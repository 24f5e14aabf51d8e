import { Controller, Get, Module, Post } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Public, RequirePermission } from '../src/core/authorization/require-permission.js';
import { type GuardedRoute, RouteAccess } from '../src/core/authorization/route-access.js';
import { type TestApplication, startTestApplication } from './setup/application.js';

describe('the routes of the application', () => {
  let app: TestApplication;
  let routes: GuardedRoute[];

  beforeAll(async () => {
    app = await startTestApplication();
    routes = app.application.nest.get(RouteAccess, { strict: false }).list();
  });
  afterAll(() => app?.close());

  it('are these, each with its permission', async () => {
    const lines = routes
      .toSorted((a, b) => a.path.localeCompare(b.path) || a.method.localeCompare(b.method))
      .map(
        ({ method, path, permission, or }) =>
          `${method.padEnd(7)}${path.padEnd(73)}${permission ?? 'public'}${or ? ` or ${or}` : ''}\n`,
      );
    await expect(lines.join('')).toMatchFileSnapshot('__snapshots__/routes.txt');
  });

  it('are those of the API document, which says the same of their permissions', async () => {
    const { body } = await app.anonymous.get('//openapi.json');
    type Operation = { 'x-permission': { permission: string | null; or?: string } };
    const documented = Object.entries<Record<string, Operation>>(body.paths).flatMap(([path, operations]) =>
      Object.entries(operations).map(
        ([
          method,
          {
            'x-permission': { permission, or = null },
          },
        ]) => ({
          method: method.toUpperCase(),
          path: path.replace('/api/v1', '').replace(/\{(\w+)\}/g, ':$1'),
          permission,
          or,
        }),
      ),
    );
    const key = ({ method, path }: GuardedRoute) => `${path} ${method}`;
    const sorted = (list: GuardedRoute[]) => list.toSorted((a, b) => key(a).localeCompare(key(b)));
    expect(sorted(documented)).toEqual(sorted(routes));
  });

  it('refuse nobody’s request wherever they are not public', async () => {
    for (const { method, path, permission } of routes) {
      if (permission === null) continue;
      const { status } = await app.anonymous.send(method, path.replace(/:\w+/g, 'x'));
      expect(status, `${method} ${path}`).toBe(401);
    }
  });
});

describe('a route that does not say who may call it', () => {
  @Controller('doors')
  class Guarded {
    @Get('guarded')
    @RequirePermission('tenant:read')
    guarded() {}

    @Get(['open', 'ajar'])
    @Public()
    open() {}
  }

  @Controller('doors')
  class Forgotten {
    @Post('forgotten')
    forgotten() {}
  }

  const start = async (...controllers: Array<new () => object>) => {
    @Module({ imports: [DiscoveryModule], controllers, providers: [RouteAccess] })
    class Doors {}
    const module = await Test.createTestingModule({ imports: [Doors] }).compile();
    await module.init();
    return module;
  };

  it('stops the start, by name', async () => {
    await expect(start(Guarded, Forgotten)).rejects.toThrow(/who may call them.*: POST \/doors\/forgotten$/);
  });

  it('is none where each says it, under every path that it has', async () => {
    const module = await start(Guarded);
    expect(module.get(RouteAccess, { strict: false }).list()).toEqual([
      { method: 'GET', path: '/doors/guarded', permission: 'tenant:read', or: null },
      { method: 'GET', path: '/doors/open', permission: null, or: null },
      { method: 'GET', path: '/doors/ajar', permission: null, or: null },
    ]);
    await module.close();
  });
});
