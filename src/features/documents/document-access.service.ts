import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { GranteesRepository } from '../groups/grantees.repository.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { DocumentReadersRepository } from './document-readers.repository.js';
import type { Document } from './document.entity.js';
import type { Acl } from './documents.dto.js';
import { DocumentsRepository } from './documents.repository.js';
import { toldDetails } from './told-document.js';

/** Who may read a document, of all who read its knowledge base. The database holds every query to it. */
@Injectable()
export class DocumentAccessService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly documents: DocumentsRepository,
    private readonly readers: DocumentReadersRepository,
    private readonly grantees: GranteesRepository,
    private readonly audit: AuditService,
  ) {}

  /** @returns null where whoever reads the knowledge base may read it. @throws Problem 404 */
  get(kbReference: string, id: string): Promise<Acl | null> {
    return this.database.run(async tx => this.of(tx, await this.require(tx, kbReference, id)));
  }

  /** @throws Problem 404; 422 `unknown_member`, `unknown_group`, `would_lock_you_out` */
  set(kbReference: string, id: string, acl: Acl | null): Promise<Acl | null> {
    return this.database.run(async tx => {
      await this.require(tx, kbReference, id);
      // A worker that is storing its chunks goes first: they get the flag that is set here.
      if (!(await this.documents.lock(tx, id))) throw Problem.notFound('document');
      const document = await this.require(tx, kbReference, id);
      const before = await this.of(tx, document);
      if (acl) await this.restrict(tx, document, acl);
      else await this.readers.open(tx, id);
      const after = acl && (await this.readers.list(tx, id));
      const { kbId, title } = document;
      this.audit.record(tx, {
        action: 'document.acl_changed',
        resource: { type: 'document', id },
        details: toldDetails({ kbId, title, restricted: after !== null }, { before, after }),
      });
      return after;
    });
  }

  /** Keeps those who are about to be listed in the tenant until the transaction ends. @throws Problem 422 as {@link set} */
  async lockReaders(tx: Tx, acl: Acl): Promise<void> {
    this.requireOwnAccess(acl);
    await this.requireKnown(tx, acl);
  }

  /** In the transaction that makes or changes the document. @throws Problem 422 as {@link set} */
  async restrict(tx: Tx, document: Pick<Document, 'id' | 'kbId' | 'tenantId'>, acl: Acl): Promise<void> {
    await this.lockReaders(tx, acl);
    await this.readers.restrict(tx, document, acl);
  }

  /** Who may read a document that the transaction sees. */
  async of(tx: Tx, document: Document): Promise<Acl | null> {
    return document.restricted ? this.readers.list(tx, document.id) : null;
  }

  private async require(tx: Tx, kbReference: string, id: string): Promise<Document> {
    const kb = await this.knowledgeBases.require(tx, kbReference);
    const document = await this.documents.find(tx, kb.id, id);
    if (!document) throw Problem.notFound('document');
    return document;
  }

  private requireOwnAccess({ members, groups }: Acl): void {
    const { access } = this.context;
    if (access.all || access.groups.some(group => groups.includes(group))) return;
    if (members.includes(this.context.userId)) return;
    throw Problem.invalid([
      {
        path: 'acl',
        code: 'would_lock_you_out',
        message: 'You could not read this document any more: list yourself, or a group that you are in.',
      },
    ]);
  }

  /** Somebody of another tenant is the same as nobody. */
  private async requireKnown(tx: Tx, acl: Acl): Promise<void> {
    const members = await this.grantees.membersAmong(tx, acl.members);
    const groups = await this.grantees.groupsAmong(tx, acl.groups);
    const errors = [
      ...unknown(acl.members, members, 'acl.members', 'unknown_member', 'This is no member of the tenant.'),
      ...unknown(acl.groups, groups, 'acl.groups', 'unknown_group', 'There is no such group.'),
    ];
    if (errors.length > 0) throw Problem.invalid(errors);
  }
}

const unknown = (
  ids: readonly string[],
  known: readonly string[],
  path: string,
  code: string,
  message: string,
) => ids.flatMap((id, index) => (known.includes(id) ? [] : [{ path: `${path}.${index}`, code, message }]));
