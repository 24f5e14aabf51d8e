import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Where the file lies: beside `src` in a checkout, beside `dist` in an installation. */
export function casbinFile(name: string): string {
  const root = import.meta.url.includes('/dist/src/') ? '../../../../casbin/' : '../../../casbin/';
  return fileURLToPath(new URL(root + name, import.meta.url));
}

/** Rules of `casbin/policy.csv`: lines of `p, role, domain, object, action`; `#` begins a comment. */
export function readDefaultPolicy(): string[][] {
  return readFileSync(casbinFile('policy.csv'), 'utf8')
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '' && !line.startsWith('#'))
    .map(line => line.split(',').map(part => part.trim()));
}
