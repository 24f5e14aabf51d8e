import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { Invitation, ListInvitations, ReceivedInvitation } from './invitations.dto.js';

const SORTABLE = { created_at: 'i.created_at', email: 'lower(i.email)', expires_at: 'i.expires_at' };

const STATUS = `CASE WHEN i.status = 'pending' AND i.expires_at <= now() THEN 'expired' ELSE i.status END`;

const COLUMNS = `i.id, i.tenant_id AS "tenantId", i.email, i.roles, i.message, ${STATUS} AS status,
  i.invited_by AS "invitedBy", i.accepted_by AS "acceptedBy", i.created_at AS "createdAt", i.sent_at AS "sentAt",
  i.expires_at AS "expiresAt", i.answered_at AS "answeredAt"`;

const RECEIVED = `${COLUMNS}, t.name AS "tenantName", t.display_name AS "tenantDisplayName",
  t.status AS "tenantStatus", t.branding, u.display_name AS inviter`;
const FROM_RECEIVED =
  'FROM invitations i JOIN tenants t ON t.id = i.tenant_id LEFT JOIN users u ON u.id = i.invited_by';

export interface NewInvitation {
  id: string;
  tenantId: string;
  email: string;
  roles: readonly string[];
  message: string | null;
  tokenHash: Buffer;
  invitedBy: string;
  days: number;
}

/** Invitations: the tenant’s in its own transactions, one that is found by its token in the platform’s. */
@Injectable()
export class InvitationsRepository {
  /** One that has expired makes room. @returns null where the address has a pending one */
  async insert(tx: Tx, invitation: NewInvitation): Promise<Invitation | null> {
    await tx.query(
      `UPDATE invitations SET status = 'expired'
       WHERE tenant_id = $1 AND lower(email) = lower($2) AND status = 'pending' AND expires_at <= now()`,
      [invitation.tenantId, invitation.email],
    );
    const rows: Invitation[] = await tx.query(
      `INSERT INTO invitations AS i (id, tenant_id, email, roles, message, token_hash, invited_by, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(days => $8))
       ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
      [
        invitation.id,
        invitation.tenantId,
        invitation.email,
        invitation.roles,
        invitation.message,
        invitation.tokenHash,
        invitation.invitedBy,
        invitation.days,
      ],
    );
    return rows[0] ?? null;
  }

  async find(tx: Tx, tenantId: string, id: string, { lock = false } = {}): Promise<Invitation | null> {
    const rows: Invitation[] = await tx.query(
      `SELECT ${COLUMNS} FROM invitations i WHERE i.tenant_id = $1 AND i.id = $2 ${lock ? 'FOR UPDATE' : ''}`,
      [tenantId, id],
    );
    return rows[0] ?? null;
  }

  async list(tx: Tx, tenantId: string, query: ListInvitations): Promise<Page<Invitation>> {
    const parameters: unknown[] = [tenantId];
    const conditions = ['i.tenant_id = $1'];
    if (query.status) conditions.push(`${STATUS} = $${parameters.push(query.status)}`);
    if (query.search) conditions.push(`i.email ILIKE $${parameters.push(likePattern(query.search))}`);
    const from = `FROM invitations i WHERE ${conditions.join(' AND ')}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, parameters);
    const column = orderBy(query.sort, SORTABLE);
    const items: Invitation[] = await tx.query(
      `SELECT ${COLUMNS} ${from} ORDER BY ${column}, i.id ${column.endsWith('DESC') ? 'DESC' : 'ASC'}
       LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }

  /** Whether a member of the tenant, suspended or not, has this address. */
  async isMember(tx: Tx, tenantId: string, email: string): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `SELECT FROM members m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = $1 AND lower(u.email) = lower($2)`,
      [tenantId, email],
    );
    return rows.length > 0;
  }

  /** The token of before opens nothing any more. @returns false where it no longer waits for an answer */
  async renew(tx: Tx, tenantId: string, id: string, tokenHash: Buffer, days: number): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      `UPDATE invitations SET token_hash = $3, sent_at = now(), expires_at = now() + make_interval(days => $4)
       WHERE tenant_id = $1 AND id = $2 AND status = 'pending'`,
      [tenantId, id, tokenHash, days],
    );
    return count === 1;
  }

  /** @returns false where it no longer waits for an answer */
  async answer(
    tx: Tx,
    tenantId: string,
    id: string,
    status: 'accepted' | 'declined' | 'revoked',
    acceptedBy: string | null = null,
  ): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      `UPDATE invitations SET status = $3, answered_at = now(), accepted_by = $4
       WHERE tenant_id = $1 AND id = $2 AND status = 'pending'`,
      [tenantId, id, status, acceptedBy],
    );
    return count === 1;
  }

  /** In a transaction of the platform. @param lock makes others who answer it wait */
  async findByToken(tx: Tx, tokenHash: Buffer, { lock = false } = {}): Promise<ReceivedInvitation | null> {
    const rows: ReceivedInvitation[] = await tx.query(
      `SELECT ${RECEIVED} ${FROM_RECEIVED} WHERE i.token_hash = $1 ${lock ? 'FOR UPDATE OF i' : ''}`,
      [tokenHash],
    );
    return rows[0] ?? null;
  }
}
