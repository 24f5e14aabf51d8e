import { Injectable } from '@nestjs/common';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { isNamedBy } from './allowed-types.js';

/** Which types of documents a tenant takes, whatever way they come. */
@Injectable()
export class AllowedTypes {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
  ) {}

  /**
   * Why the context's tenant takes no documents of a type; null where it does. Remembered until its settings change; not
   * inside of a transaction.
   */
  async refusalOf(mimeType: string): Promise<{ code: 'type_not_allowed'; message: string } | null> {
    const tenant = await this.directory.find(this.context.tenant.id);
    const allowed = tenant?.allowedDocumentTypes ?? [];
    if (allowed.length === 0 || allowed.some(name => isNamedBy(name, mimeType))) return null;
    return {
      code: 'type_not_allowed',
      message: `This tenant takes no documents of the type ${mimeType}.`,
    };
  }
}
