import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

/** One sign-in. It lives on while its refresh token is exchanged for the next in time. */
@Entity('auth_sessions')
export class AuthSession {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'user_id' })
  userId!: string;

  @Column('uuid', { name: 'active_tenant_id', nullable: true })
  activeTenantId!: string | null;

  /** Of the one refresh token that is good at present. */
  @Column('bytea', { name: 'refresh_token_hash' })
  refreshTokenHash!: Buffer;

  @Column('text', { name: 'user_agent', nullable: true })
  userAgent!: string | null;

  @Column('text', { nullable: true })
  ip!: string | null;

  @CreateDateColumn({ type: 'timestamptz', name: 'created_at' })
  createdAt!: Date;

  @Column('timestamptz', { name: 'last_used_at' })
  lastUsedAt!: Date;

  @Column('timestamptz', { name: 'expires_at' })
  expiresAt!: Date;

  @Column('timestamptz', { name: 'revoked_at', nullable: true })
  revokedAt!: Date | null;
}
