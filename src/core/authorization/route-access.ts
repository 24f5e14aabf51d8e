import { Injectable, RequestMethod, type OnModuleInit, type Type } from '@nestjs/common';
import { METHOD_METADATA, PATH_METADATA } from '@nestjs/common/constants.js';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import { ACCESS, type Access } from './require-permission.js';

export interface GuardedRoute {
  method: string;
  path: string;
  /** Null for public routes. */
  permission: string | null;
  /** Another one that opens it as well. */
  or: string | null;
}

/** Reads of every route who may call it, and stops the start where one does not say. */
@Injectable()
export class RouteAccess implements OnModuleInit {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
  ) {}

  onModuleInit(): void {
    const open = this.routes().filter(route => route.permission === undefined);
    if (open.length > 0) {
      const names = open.map(route => `${route.method} ${route.path}`).join(', ');
      throw new Error(
        `These routes do not say who may call them; add @RequirePermission(…) or @Public(): ${names}`,
      );
    }
  }

  list(): GuardedRoute[] {
    return this.routes().map(route => ({ ...route, permission: route.permission ?? null }));
  }

  private routes(): Array<Omit<GuardedRoute, 'permission'> & { permission: string | null | undefined }> {
    return this.discovery.getControllers().flatMap(({ metatype, instance }) => {
      if (!instance || !metatype) return [];
      const prototype = Object.getPrototypeOf(instance) as Record<string, object>;
      return this.scanner.getAllMethodNames(prototype).flatMap(name => {
        const handler = prototype[name] as object;
        const method = Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod | undefined;
        if (method === undefined) return [];
        const access = Reflect.getMetadata(ACCESS, handler) as Access | undefined;
        const permission = access && (access.kind === 'public' ? null : access.permission);
        const or = access?.kind === 'permission' ? access.or : null;
        return pathsOf(metatype as Type).flatMap(base =>
          pathsOf(handler).map(path => ({
            method: RequestMethod[method],
            path: join(base, path),
            permission,
            or,
          })),
        );
      });
    });
  }
}

const pathsOf = (target: object): string[] =>
  [(Reflect.getMetadata(PATH_METADATA, target) as string | string[] | undefined) ?? ''].flat();

const join = (...parts: string[]): string =>
  `/${parts
    .map(part => part.replace(/^\/+|\/+$/g, ''))
    .filter(part => part !== '')
    .join('/')}`;
