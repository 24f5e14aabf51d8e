import { SetMetadata } from '@nestjs/common';

export const USAGE_OPERATION = 'usage-operation';

/** Requests that see what is used, and that pay for it: whoever has run out may still send them. */
export const USAGE_READ = 'usage.read';
export const BILLING = 'billing';

/**
 * Names what a route does in the usage of the tenant. Without it the name is made of the route's permission where that is
 * about contents (`document:create` → `document.create`), and `api` elsewhere.
 */
export const UsageOperation = (operation: string): MethodDecorator => SetMetadata(USAGE_OPERATION, operation);
