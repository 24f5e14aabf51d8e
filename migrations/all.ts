import { CreateRoles1763712000000 } from './1763712000000-create-roles.js';
import { CreateUsersAndSessions1763712100000 } from './1763712100000-create-users-and-sessions.js';
import { CreateTenantsAndMembers1763712200000 } from './1763712200000-create-tenants-and-members.js';
import { CreateCasbinRules1763712300000 } from './1763712300000-create-casbin-rules.js';
import { CreateKnowledgeBasesAndDocuments1763712400000 } from './1763712400000-create-knowledge-bases-and-documents.js';
import { CreateRetrievalIndex1763712500000 } from './1763712500000-create-retrieval-index.js';
import { ExtendUsers1763800000000 } from './1763800000000-extend-users.js';
import { ExtendTenants1763800100000 } from './1763800100000-extend-tenants.js';
import { CreateInvitations1763800200000 } from './1763800200000-create-invitations.js';
import { CreateGroupsAndGrants1763800300000 } from './1763800300000-create-groups-and-grants.js';
import { CreateAudit1763800400000 } from './1763800400000-create-audit.js';
import { CreateJobs1763800500000 } from './1763800500000-create-jobs.js';
import { CreateEventsAndSchedules1763900000000 } from './1763900000000-create-events-and-schedules.js';
import { CreateApiTokens1763900100000 } from './1763900100000-create-api-tokens.js';
import { CreateQuotas1763900200000 } from './1763900200000-create-quotas.js';
import { CreateCredits1763900300000 } from './1763900300000-create-credits.js';
import { CreateUsage1763900400000 } from './1763900400000-create-usage.js';
import { CreateWebhooks1763900500000 } from './1763900500000-create-webhooks.js';
import { CreateIdempotencyKeys1763900600000 } from './1763900600000-create-idempotency-keys.js';
import { CreateAlerts1763900700000 } from './1763900700000-create-alerts.js';
import { ExtendDocuments1764000000000 } from './1764000000000-extend-documents.js';
import { AddCanonicalUrls1764000100000 } from './1764000100000-add-canonical-urls.js';
import { WatchDocuments1764000900000 } from './1764000900000-watch-documents.js';
import { CreateModels1765000100000 } from './1765000100000-create-models.js';
import { AddLanguages1765000200000 } from './1765000200000-add-languages.js';
import { IndexLargeKnowledgeBases1765000300000 } from './1765000300000-index-large-knowledge-bases.js';
import { CreateAnswerCache1765000400000 } from './1765000400000-create-answer-cache.js';
import { CreateAgentsAndChats1765000500000 } from './1765000500000-create-agents-and-chats.js';
import { CreateKnowledgeGraphs1765000600000 } from './1765000600000-create-knowledge-graphs.js';
import { CreateEvaluations1765000700000 } from './1765000700000-create-evaluations.js';
import { WeighPostingsFiner1765000800000 } from './1765000800000-weigh-postings-finer.js';
import { NarrowPublicPrivileges1766000000000 } from './1766000000000-narrow-public-privileges.js';

/** In the order in which they run. */
export const MIGRATIONS = [
  CreateRoles1763712000000,
  CreateUsersAndSessions1763712100000,
  CreateTenantsAndMembers1763712200000,
  CreateCasbinRules1763712300000,
  CreateKnowledgeBasesAndDocuments1763712400000,
  CreateRetrievalIndex1763712500000,
  ExtendUsers1763800000000,
  ExtendTenants1763800100000,
  CreateInvitations1763800200000,
  CreateGroupsAndGrants1763800300000,
  CreateAudit1763800400000,
  CreateJobs1763800500000,
  CreateEventsAndSchedules1763900000000,
  CreateApiTokens1763900100000,
  CreateQuotas1763900200000,
  CreateCredits1763900300000,
  CreateUsage1763900400000,
  CreateWebhooks1763900500000,
  CreateIdempotencyKeys1763900600000,
  CreateAlerts1763900700000,
  ExtendDocuments1764000000000,
  AddCanonicalUrls1764000100000,
  WatchDocuments1764000900000,
  CreateModels1765000100000,
  AddLanguages1765000200000,
  IndexLargeKnowledgeBases1765000300000,
  CreateAnswerCache1765000400000,
  CreateAgentsAndChats1765000500000,
  CreateKnowledgeGraphs1765000600000,
  CreateEvaluations1765000700000,
  WeighPostingsFiner1765000800000,
  NarrowPublicPrivileges1766000000000,
];
