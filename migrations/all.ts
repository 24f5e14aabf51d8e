import { CreateRoles1763712000000 } from './1763712000000-create-roles.js';
import { CreateUsersAndSessions1763712100000 } from './1763712100000-create-users-and-sessions.js';
import { CreateTenantsAndMembers1763712200000 } from './1763712200000-create-tenants-and-members.js';
import { CreateCasbinRules1763712300000 } from './1763712300000-create-casbin-rules.js';
import { CreateKnowledgeBasesAndDocuments1763712400000 } from './1763712400000-create-knowledge-bases-and-documents.js';
import { CreateRetrievalIndex1763712500000 } from './1763712500000-create-retrieval-index.js';

/** In the order in which they run. */
export const MIGRATIONS = [
  CreateRoles1763712000000,
  CreateUsersAndSessions1763712100000,
  CreateTenantsAndMembers1763712200000,
  CreateCasbinRules1763712300000,
  CreateKnowledgeBasesAndDocuments1763712400000,
  CreateRetrievalIndex1763712500000,
];
