import { readFileSync } from 'node:fs';
import { UsageError } from './cli-command.js';

const text = { type: 'string' } as const;

/** Options of commands that work on a running server, or on the database itself. */
export const SERVER_OPTIONS = { url: text, token: text, 'token-file': text } as const;

/** A running server. */
export interface ChosenServer {
  /** Without `/api/v1`. */
  url: string;
  token: string;
}

/** @throws UsageError */
export function serverOf(values: {
  url?: string | undefined;
  token?: string | undefined;
  'token-file'?: string | undefined;
}): ChosenServer | null {
  const { url, token: typed, 'token-file': file } = values;
  if (url === undefined) {
    if (typed !== undefined || file !== undefined) throw new UsageError('--token is for --url.');
    return null;
  }
  if ((typed === undefined) === (file === undefined))
    throw new UsageError('--url needs --token or --token-file.');
  return { url: serverAddress(url), token: typed ?? fileText(file as string).trim() };
}

/** @returns without `/api/v1`. @throws UsageError */
export function serverAddress(url: string): string {
  const address = URL.canParse(url) ? new URL(url) : null;
  if (!address || !/^https?:$/.test(address.protocol))
    throw new UsageError('--url is an http or https address.');
  if (address.username || address.search || address.hash)
    throw new UsageError('--url is the address of the server alone.');
  const path = address.pathname.replace(/\/+$/, '').replace(/\/api\/v1$/, '');
  return `${address.origin}${path}`;
}

/** @throws UsageError */
export function fileText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`The file ${path} cannot be read: ${(error as Error).message}`);
  }
}
