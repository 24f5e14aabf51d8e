import { type DynamicModule, Module } from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE } from '@nestjs/core';
import { ClsModule } from 'nestjs-cls';
import type { DataSource } from 'typeorm';
import { AuditModule } from './core/audit/audit.module.js';
import { DenialFilter } from './core/audit/denial.filter.js';
import { AuthorizationModule } from './core/authorization/authorization.module.js';
import { CasbinRule } from './core/authorization/casbin-rules.repository.js';
import { PermissionGuard } from './core/authorization/permission.guard.js';
import { CreditsModule } from './core/credits/credits.module.js';
import { EventsModule } from './core/events/events.module.js';
import { IdempotencyInterceptor } from './core/idempotency/idempotency.interceptor.js';
import { IdempotencyModule } from './core/idempotency/idempotency.module.js';
import { BackgroundJobsModule } from './core/jobs/background-jobs.module.js';
import { JOBS_QUEUE, OUTBOUND_JOBS_QUEUE } from './core/jobs/background-jobs.service.js';
import { MailModule } from './core/mail/mail.module.js';
import { ModelErrorFilter } from './core/models/model-error.filter.js';
import { ModelsModule } from './core/models/models.module.js';
import { CallLimitsGuard } from './core/quotas/call-limits.guard.js';
import { QuotasModule } from './core/quotas/quotas.module.js';
import { RequestRateGuard } from './core/quotas/request-rate.guard.js';
import { TenancyModule } from './core/tenancy/tenancy.module.js';
import { UsageGuard } from './core/usage/usage.guard.js';
import { UsageModule } from './core/usage/usage.module.js';
import { VariablesModule } from './core/variables/variables.module.js';
import { AuthSession } from './entry/authentication/auth-session.entity.js';
import { AuthenticationGuard } from './entry/authentication/authentication.guard.js';
import { AuthenticationModule } from './entry/authentication/authentication.module.js';
import { LiveRequestGuard } from './entry/authentication/live-request.guard.js';
import { TenantGuard } from './entry/authentication/tenant.guard.js';
import { HealthModule } from './entry/health/health.module.js';
import { IsolationModule } from './entry/isolation/isolation.module.js';
import { QueueBoardModule } from './entry/queue-board/queue-board.module.js';
import { ApiTokensModule } from './features/api-tokens/api-tokens.module.js';
import { AgentsModule } from './features/agents/agents.module.js';
import { AnalyticsModule } from './features/analytics/analytics.module.js';
import { ChatModule } from './features/chat/chat.module.js';
import { DataLifecycleModule } from './features/data-lifecycle/data-lifecycle.module.js';
import { Document } from './features/documents/document.entity.js';
import { DocumentsModule } from './features/documents/documents.module.js';
import { INGESTION_QUEUE } from './features/documents/ingestion-queue.js';
import { GraphModule } from './features/graph/graph.module.js';
import { GroupsModule } from './features/groups/groups.module.js';
import { EvaluationModule } from './features/evaluation/evaluation.module.js';
import { IngestionModule } from './features/ingestion/ingestion.module.js';
import { KnowledgeBase } from './features/knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesModule } from './features/knowledge-bases/knowledge-bases.module.js';
import { Member } from './features/members/member.entity.js';
import { MembersModule } from './features/members/members.module.js';
import { NotificationsModule } from './features/notifications/notifications.module.js';
import { RagQueryModule } from './features/rag-query/rag-query.module.js';
import { RetrievalModule } from './features/retrieval/retrieval.module.js';
import { RolesModule } from './features/roles/roles.module.js';
import { Tenant } from './features/tenants/tenant.entity.js';
import { TenantsModule } from './features/tenants/tenants.module.js';
import { User } from './features/users/user.entity.js';
import { UsersModule } from './features/users/users.module.js';
import { WebhooksModule } from './features/webhooks/webhooks.module.js';
import { ConfigModule } from './foundation/config/config.module.js';
import type { Env } from './foundation/config/env.js';
import { CryptoModule } from './foundation/crypto/crypto.module.js';
import type { Secrets } from './foundation/crypto/secrets.js';
import { DatabaseModule } from './foundation/database/database.module.js';
import { EntityTagInterceptor } from './foundation/http/entity-tag.js';
import { ProblemFilter } from './foundation/http/problem.filter.js';
import { validationPipe } from './foundation/http/validation.pipe.js';
import { JobsModule } from './foundation/jobs/jobs.module.js';
import { MailTransportModule } from './foundation/mail/mail-transport.module.js';
import { OutboundModule } from './foundation/outbound/outbound.module.js';
import { RateLimitsModule } from './foundation/rate-limits/rate-limits.module.js';
import { StorageModule } from './foundation/storage/storage.module.js';

export const ENTITIES = [User, AuthSession, Tenant, Member, KnowledgeBase, Document, CasbinRule];

/** What a process does: answer requests, work on jobs, or both. */
export interface ProcessRole {
  http: boolean;
  jobs: boolean;
}

export interface AppModuleOptions {
  env: Env;
  secrets: Secrets;
  dataSource: DataSource;
  /** Connection string of the running role; null on the embedded database. */
  databaseUrl: string | null;
  /** Names the database: what is shared with other installations is kept apart by it. */
  installation: string;
  role: ProcessRole;
}

@Module({})
export class AppModule {
  static forRoot({
    env,
    secrets,
    dataSource,
    databaseUrl,
    installation,
    role,
  }: AppModuleOptions): DynamicModule {
    const authentication = AuthenticationModule.forRoot(env, secrets);
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(env),
        CryptoModule.forRoot(secrets),
        DatabaseModule.forRoot(dataSource, databaseUrl),
        StorageModule.forRoot(env),
        MailTransportModule.forRoot(env),
        OutboundModule.forRoot(env),
        RateLimitsModule.forRoot(env, installation),
        JobsModule.register(env, INGESTION_QUEUE, installation),
        JobsModule.register(env, JOBS_QUEUE, installation),
        JobsModule.register(env, OUTBOUND_JOBS_QUEUE, installation),
        ClsModule.forRoot({ global: true, middleware: { mount: role.http } }),
        TenancyModule,
        EventsModule.forRoot({ work: role.jobs }),
        AuthorizationModule,
        AuditModule,
        VariablesModule,
        BackgroundJobsModule.forRoot({ work: role.jobs }),
        MailModule,
        UsageModule,
        QuotasModule,
        CreditsModule,
        ModelsModule,
        IdempotencyModule,
        UsersModule,
        RolesModule,
        GroupsModule,
        MembersModule,
        TenantsModule,
        ApiTokensModule,
        KnowledgeBasesModule,
        DocumentsModule,
        GraphModule,
        IngestionModule.forRoot({ work: role.jobs }),
        RetrievalModule,
        AgentsModule,
        RagQueryModule,
        ChatModule,
        EvaluationModule,
        NotificationsModule,
        WebhooksModule,
        AnalyticsModule,
        DataLifecycleModule.forRoot(installation),
        authentication,
        QueueBoardModule.forRoot(secrets, authentication),
        HealthModule,
        IsolationModule,
      ],
      providers: [
        // In this order: who is it, how fast, which tenant, may they, how often; and do they still.
        { provide: APP_GUARD, useClass: AuthenticationGuard },
        { provide: APP_GUARD, useClass: RequestRateGuard },
        { provide: APP_GUARD, useClass: TenantGuard },
        { provide: APP_GUARD, useClass: PermissionGuard },
        { provide: APP_GUARD, useClass: CallLimitsGuard },
        { provide: APP_GUARD, useClass: LiveRequestGuard },
        // The last: whoever comes this far is let in.
        { provide: APP_GUARD, useClass: UsageGuard },
        { provide: APP_PIPE, useFactory: validationPipe },
        // Outside of the other: what is kept has its ETag.
        { provide: APP_INTERCEPTOR, useClass: IdempotencyInterceptor },
        { provide: APP_INTERCEPTOR, useClass: EntityTagInterceptor },
        // Nest asks the last one first: the filter for everything comes first.
        { provide: APP_FILTER, useClass: ProblemFilter },
        { provide: APP_FILTER, useClass: ModelErrorFilter },
        { provide: APP_FILTER, useClass: DenialFilter },
      ],
    };
  }
}
