/**
 * The database roles. Only the login role can connect; it has no privilege of its own and enters one of the
 * two others for the length of a transaction. None of them owns a table or can bypass row-level security.
 */
export const TENANT_ROLE = 'enclave_tenant';
export const PLATFORM_ROLE = 'enclave_platform';
/** The login role where `DATABASE_URL` names none. */
export const DEFAULT_LOGIN_ROLE = 'enclave_app';
