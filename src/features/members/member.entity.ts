import { Column, Entity, PrimaryColumn } from 'typeorm';

/** That a user belongs to a tenant. The roles are Casbin's rules in the domain of the tenant. */
@Entity('members')
export class Member {
  @PrimaryColumn('uuid', { name: 'tenant_id' })
  tenantId!: string;

  @PrimaryColumn('uuid', { name: 'user_id' })
  userId!: string;

  @Column('text', { default: 'active' })
  status!: 'active' | 'suspended';

  @Column('timestamptz', { name: 'joined_at', default: () => 'now()' })
  joinedAt!: Date;

  @Column('uuid', { name: 'joined_by', nullable: true })
  joinedBy!: string | null;
}
