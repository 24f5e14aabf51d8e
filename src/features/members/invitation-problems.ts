import { Problem } from '../../foundation/http/problem.js';
import type { InvitationStatus } from './invitations.dto.js';

const DETAILS: Record<Exclude<InvitationStatus, 'pending'>, string> = {
  accepted: 'This invitation was accepted already.',
  declined: 'This invitation was declined.',
  revoked: 'This invitation was revoked.',
  expired: 'This invitation has expired. Ask for another one.',
};

/** 409 `invitation_accepted`, `invitation_declined`, `invitation_revoked` or `invitation_expired`. */
export const notPending = (status: Exclude<InvitationStatus, 'pending'>): Problem =>
  Problem.conflict(`invitation_${status}`, DETAILS[status]);

export const roleGone = (role: string): Problem =>
  Problem.conflict('role_gone', `The tenant has no role ${role} any more: ask for another invitation.`);

export const alreadyMember = (): Problem =>
  Problem.conflict('already_member', 'Somebody with this address is a member already.');
