import { ClsServiceManager } from 'nestjs-cls';
import { describe, expect, it } from 'vitest';
import { SettingsError } from '../../foundation/config/env.js';
import { FeaturesService } from './features.service.js';
import { TenantContext } from './tenant-context.js';
import type { TenantDirectory } from './tenant-directory.js';

const context = new TenantContext(ClsServiceManager.getClsService());

function service(ofPlatform: Record<string, unknown>, ofTenant: Record<string, unknown> = {}) {
  const directory = { find: async () => ({ features: ofTenant }) } as unknown as TenantDirectory;
  return new FeaturesService({ features: ofPlatform }, context, directory);
}

describe('FeaturesService', () => {
  it('takes the tenant’s own value, else the platform’s, else the default', async () => {
    const features = service({ invitations: false, invitation_days: 3 }, { invitation_days: 30 });
    await context.runAsSystem({ id: 't', name: 't' }, async () => {
      expect(await features.get('invitation_days')).toBe(30);
      expect(await features.get('invitations')).toBe(false);
      expect(await features.get('custom_roles')).toBe(true);
    });
    expect(features.resolve({ invitation_days: 30 })).toEqual(
      expect.arrayContaining([
        { name: 'invitation_days', value: 30, level: 'tenant' },
        { name: 'invitations', value: false, level: 'platform' },
        { name: 'custom_roles', value: true, level: 'default' },
      ]),
    );
  });

  it('a value that is false or null-like still counts as set', () => {
    expect(service({ invitations: true }).effective({ invitations: false }).invitations).toBe(false);
  });

  it.each([
    [{ inventions: true }, /names inventions, which is no feature. There are: invitations, /],
    [{ constructor: true }, /names constructor, which is no feature/],
    [{ invitations: 'yes' }, /gives invitations a value that it cannot have/],
    [{ invitation_days: 1000 }, /gives invitation_days a value that it cannot have/],
    [{ default_kb_visibility: null }, /gives default_kb_visibility a value/],
  ])('stops the start where the platform’s are %j', (features, message) => {
    expect(() => service(features)).toThrow(message);
    expect(() => service(features)).toThrow(SettingsError);
  });
});
