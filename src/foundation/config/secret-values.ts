import type { Env } from './env.js';

/** Every secret that the settings hold, for a log that must not tell any. */
export function secretValues(env: Env): string[] {
  const addresses =
    env.database.mode === 'server'
      ? [env.database.url, env.database.adminUrl, env.redisUrl, env.mail.smtpUrl]
      : [env.redisUrl, env.mail.smtpUrl];
  return [
    env.jwtSecret,
    env.encryptionKey,
    ...env.oldEncryptionKeys,
    env.platformAdmin.password,
    ...addresses.map(address => address && passwordOf(address)),
    env.embedding?.apiKey,
    env.llm?.apiKey,
    env.vision?.apiKey,
    env.transcription?.apiKey,
    env.docling?.apiKey,
    env.s3?.credentials?.secretAccessKey,
  ].filter(value => typeof value === 'string' && value !== '') as string[];
}

function passwordOf(address: string): string {
  const { password } = new URL(address);
  try {
    return decodeURIComponent(password);
  } catch {
    return password;
  }
}
