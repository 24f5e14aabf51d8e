import { Body, Controller, Get, HttpCode, Patch, Post, Req } from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { Public, RequirePermission } from '../../core/authorization/require-permission.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import {
  type UpdateProfile,
  toUser,
  updateProfileSchema,
  userSchema,
} from '../../features/users/users.dto.js';
import { UsersService } from '../../features/users/users.service.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import {
  type ChangePassword,
  type ForgotPassword,
  type Login,
  type Refresh,
  type Register,
  type ResetPassword,
  type SwitchTenant,
  acceptedSchema,
  accessTokenSchema,
  changePasswordSchema,
  forgotPasswordSchema,
  loginSchema,
  meSchema,
  refreshSchema,
  registerSchema,
  resetPasswordSchema,
  signedInSchema,
  switchTenantSchema,
  tokensSchema,
} from './authentication.dto.js';
import { AuthenticationService, type SignedIn } from './authentication.service.js';
import { type Client, type IssuedTokens, SessionsService } from './sessions.service.js';

@ApiTags('Authentication')
@Controller('auth')
export class AuthenticationController {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
    private readonly authentication: AuthenticationService,
    private readonly sessions: SessionsService,
    private readonly users: UsersService,
  ) {}

  @Post('register')
  @Public()
  @ApiOperation({ summary: 'Make an account and sign in' })
  @ApiCreatedResponse({ standardSchema: signedInSchema })
  @ApiProblems(403, 409, 422, 429)
  async register(@Body({ schema: registerSchema }) body: Register, @Req() request: FastifyRequest) {
    return this.toSignedIn(await this.authentication.register(body, clientOf(request)));
  }

  @Post('login')
  @HttpCode(200)
  @Public()
  @ApiOperation({
    summary: 'Sign in with e-mail address and password',
    description:
      'Ten wrong passwords within a quarter of an hour close an account to where they came from: to the address, where the ' +
      'account was opened from it before, else to all such addresses. From anywhere, an e-mail opens it (`POST ' +
      '/auth/forgot-password`).',
  })
  @ApiOkResponse({ standardSchema: signedInSchema })
  @ApiProblems(401, 404, 422, 429)
  async login(@Body({ schema: loginSchema }) body: Login, @Req() request: FastifyRequest) {
    return this.toSignedIn(await this.authentication.login(body, clientOf(request)));
  }

  @Post('refresh')
  @HttpCode(200)
  @Public()
  @ApiOperation({
    summary: 'Exchange a refresh token for new tokens',
    description: 'A refresh token is good once; using it again ends the session.',
  })
  @ApiOkResponse({ standardSchema: tokensSchema })
  @ApiProblems(401, 422, 429)
  async refresh(@Body({ schema: refreshSchema }) body: Refresh, @Req() request: FastifyRequest) {
    return this.toTokens(await this.authentication.refresh(body.refresh_token, clientOf(request)));
  }

  @Post('logout')
  @HttpCode(204)
  @RequirePermission('user:update')
  @ApiOperation({ summary: 'End this session: its access and refresh tokens stop at once' })
  @ApiNoContentResponse()
  async logout() {
    await this.sessions.signOut(this.session.userId, this.session.sessionId);
  }

  @Post('forgot-password')
  @HttpCode(202)
  @Public()
  @ApiOperation({
    summary: 'Ask for an e-mail with a token to choose a new password with',
    description: 'The answer is the same whether or not there is an account with this address.',
  })
  @ApiAcceptedResponse({ standardSchema: acceptedSchema })
  @ApiProblems(422, 429)
  async forgotPassword(
    @Body({ schema: forgotPasswordSchema }) body: ForgotPassword,
    @Req() request: FastifyRequest,
  ) {
    await this.authentication.forgotPassword(body.email, clientOf(request));
    return { message: 'If there is an account with this address, an e-mail is on its way to it.' };
  }

  @Post('reset-password')
  @HttpCode(204)
  @Public()
  @ApiOperation({
    summary: 'Choose a password with a token from an e-mail',
    description: 'The token is good once. Every session of the account ends.',
  })
  @ApiNoContentResponse()
  @ApiProblems(401, 422, 429)
  async resetPassword(
    @Body({ schema: resetPasswordSchema }) body: ResetPassword,
    @Req() request: FastifyRequest,
  ) {
    await this.authentication.resetPassword(body, clientOf(request));
  }

  @Post('change-password')
  @HttpCode(204)
  @RequirePermission('user:update')
  @ApiOperation({ summary: 'Choose another password; every other session of the account ends' })
  @ApiNoContentResponse()
  @ApiProblems(403, 409, 422, 429)
  async changePassword(
    @Body({ schema: changePasswordSchema }) body: ChangePassword,
    @Req() request: FastifyRequest,
  ) {
    await this.authentication.changePassword(this.session, body, clientOf(request));
  }

  @Get('me')
  @RequirePermission('user:read')
  @ApiOperation({ summary: 'Who am I, and in which tenants' })
  @ApiOkResponse({ standardSchema: meSchema })
  async me() {
    const { user, platformRoles, memberships } = await this.authentication.me(this.context.userId);
    return {
      ...toUser(user),
      active_tenant_id: this.session.tokenTenantId,
      platform_roles: platformRoles,
      tenants: memberships.map(({ id, name, displayName, roles }) => ({
        id,
        name,
        display_name: displayName,
        roles,
      })),
    };
  }

  @Patch('me')
  @RequirePermission('user:update')
  @ApiOperation({ summary: 'Change one’s profile' })
  @ApiOkResponse({ standardSchema: userSchema })
  @ApiProblems(409, 422)
  async updateMe(@Body({ schema: updateProfileSchema }) body: UpdateProfile) {
    return toUser(await this.users.updateProfile(this.context.userId, body));
  }

  @Post('switch-tenant')
  @HttpCode(200)
  @RequirePermission('user:update')
  @ApiOperation({ summary: 'Get an access token for another of one’s tenants' })
  @ApiOkResponse({ standardSchema: accessTokenSchema })
  @ApiProblems(404, 422)
  async switchTenant(@Body({ schema: switchTenantSchema }) body: SwitchTenant) {
    const { userId, sessionId } = this.session;
    return this.toAccessToken(await this.authentication.switchTenant(userId, sessionId, body.tenant));
  }

  private get session() {
    const principal = this.context.principal;
    if (principal.kind !== 'user') throw new Error('Only users have sessions.');
    return principal;
  }

  private toAccessToken(accessToken: string) {
    return { access_token: accessToken, token_type: 'Bearer' as const, expires_in: this.env.accessTokenTtl };
  }

  private toTokens(tokens: IssuedTokens) {
    return { ...this.toAccessToken(tokens.accessToken), refresh_token: tokens.refreshToken };
  }

  private toSignedIn(signedIn: SignedIn) {
    return { ...this.toTokens(signedIn), user: toUser(signedIn.user) };
  }
}

const clientOf = (request: FastifyRequest): Client => ({
  ip: request.ip,
  userAgent: request.headers['user-agent'] ?? null,
});
