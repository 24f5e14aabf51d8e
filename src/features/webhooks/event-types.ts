/** Something that webhooks can be told of. */
export interface EventType {
  /** `thing.happened`. */
  type: string;
  description: string;
}

/** What happens without anybody changing something. */
export const EVENT_TYPES: readonly EventType[] = [
  {
    type: 'document.ready',
    description: 'A document has been ingested and can be found; `title` is null where it is restricted',
  },
  {
    type: 'document.failed',
    description: 'A document could not be ingested; `error` says why, `title` is null where it is restricted',
  },
  { type: 'evaluation.finished', description: 'An evaluation is done, has failed or was cancelled' },
  { type: 'usage.rollup', description: 'What the tenant has used, summed up: for billing' },
  { type: 'credits.low', description: 'The balance of credits has fallen below a threshold' },
  { type: 'credits.exhausted', description: 'There are no credits left: what costs some is refused' },
  { type: 'credits.granted', description: 'The balance of credits was raised' },
  { type: 'quota.exceeded', description: 'Something was refused, or warned of, because a limit is reached' },
  { type: 'alert.fired', description: 'The condition of an alert has come true' },
  { type: 'alert.recovered', description: 'The condition of an alert that had fired is no longer true' },
  { type: 'webhook.test', description: 'Sent on request, to one webhook, to try it' },
];

/**
 * Families of changes. Each change that the audit writes down in the tenant's chain is an event of the same name, with
 * `resource`, `details` and `actor` as in the audit.
 */
export const EVENT_FAMILIES: ReadonlyArray<{ family: string; description: string; examples: string[] }> = [
  {
    family: 'tenant',
    description: 'The tenant itself: its fields, features, configuration, plan and limits',
    examples: ['tenant.updated', 'tenant.suspended', 'tenant.activated', 'tenant.config_changed'],
  },
  {
    family: 'member',
    description: 'Who belongs to the tenant, with which roles',
    examples: ['member.added', 'member.removed', 'member.roles_changed', 'member.suspended'],
  },
  {
    family: 'invitation',
    description: 'Invitations and their answers',
    examples: ['invitation.created', 'invitation.accepted', 'invitation.declined'],
  },
  { family: 'role', description: 'The tenant’s own roles', examples: ['role.created', 'role.updated'] },
  {
    family: 'group',
    description: 'Groups and who is in them',
    examples: ['group.created', 'group.members_added', 'group.member_removed'],
  },
  { family: 'grant', description: 'Roles for single knowledge bases', examples: ['grant.created'] },
  { family: 'kb', description: 'Knowledge bases', examples: ['kb.created', 'kb.updated', 'kb.deleted'] },
  {
    family: 'document',
    description: 'Documents, and who may read them; of restricted ones no title',
    examples: ['document.created', 'document.deleted', 'document.acl_changed'],
  },
  { family: 'agent', description: 'Agents', examples: ['agent.created', 'agent.updated', 'agent.deleted'] },
  {
    family: 'chat',
    description: 'Chats that were changed or deleted, and what people think of answers; never what was said',
    examples: ['chat.updated', 'chat.deleted', 'chat.answer_rated'],
  },
  {
    family: 'evaluation',
    description: 'Evaluations, and that they have ended; neither questions nor figures',
    examples: ['evaluation.started', 'evaluation.finished', 'evaluation.cancelled', 'evaluation.deleted'],
  },
  { family: 'job', description: 'Jobs that somebody has ended', examples: ['job.cancelled'] },
  { family: 'variable', description: 'Variables, without their values', examples: ['variable.updated'] },
  {
    family: 'model',
    description: 'Models, without their keys',
    examples: ['model.created', 'model.deleted'],
  },
  { family: 'api_token', description: 'API tokens, without their secrets', examples: ['api_token.created'] },
  { family: 'quota', description: 'The tenant’s limits', examples: ['quota.exceeded'] },
  { family: 'credits', description: 'Prepaid credits', examples: ['credits.granted', 'credits.low'] },
  { family: 'usage', description: 'What was used', examples: ['usage.rollup'] },
  {
    family: 'alert',
    description: 'Alerts, and that they fire',
    examples: ['alert.created', 'alert.fired', 'alert.recovered'],
  },
  {
    family: 'webhook',
    description: 'Webhooks themselves',
    examples: ['webhook.created', 'webhook.disabled', 'webhook.test'],
  },
  { family: 'user', description: 'Accounts, as far as the tenant made them', examples: ['user.created'] },
  { family: 'audit', description: 'The audit was exported', examples: ['audit.exported'] },
];

const FAMILIES = new Set(EVENT_FAMILIES.map(({ family }) => family));
const PATTERN = /^([a-z]+(?:_[a-z]+)*)\.(?:\*|[a-z]+(?:_[a-z]+)*)$/;

/** Whether a webhook may ask for it: `*`, `family.*`, or an exact name of a family that there is. */
export function isEventPattern(pattern: string): boolean {
  return pattern === '*' || FAMILIES.has(PATTERN.exec(pattern)?.[1] ?? '');
}

/** Whether one of the patterns means this type of event. */
export function matchesEvent(patterns: readonly string[], type: string): boolean {
  return patterns.some(
    pattern =>
      pattern === '*' ||
      pattern === type ||
      (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1))),
  );
}
