/**
 * `npm run audit:verify FILE`: verifies an export of the audit, without a database, settings or a server.
 *
 * Exit code 0: the chain is intact. 1: it is not. 2: there was nothing to verify.
 */
import { createReadStream } from 'node:fs';
import { parseArgs } from 'node:util';
import { AuditFileError, type AuditFileReport, verifyAuditFile } from './core/audit/audit-file.js';

const USAGE = `npm run audit:verify FILE [-- --head HASH] [-- --from SEQUENCE]

  FILE             an export of the audit in JSON lines; - for the standard input
  --head HASH      the newest entry must have this hash, which you have kept elsewhere
  --from SEQUENCE  the export begins with this entry instead of the first
`;

/** A mistake in the arguments. */
class UsageError extends Error {}

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  try {
    const { file, head, first } = readArguments(args);
    const input = file === '-' ? process.stdin : createReadStream(file, { highWaterMark: 1024 * 1024 });
    const report = await verifyAuditFile(input, { head, first });
    process.stdout.write(describe(report, first));
    return report.valid ? 0 : 1;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    if (error instanceof UsageError) process.stderr.write(`\n${USAGE}`);
    else if (!(error instanceof AuditFileError) && (error as NodeJS.ErrnoException).code === undefined)
      throw error;
    return 2;
  }
}

function readArguments(args: string[]): { file: string; head: string | undefined; first: number } {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { head: { type: 'string' }, from: { type: 'string', default: '1' } },
    });
    const [file, ...more] = positionals;
    if (file === undefined || more.length > 0) throw new UsageError('Name one file.');
    if (values.head !== undefined && !/^[0-9a-f]{64}$/i.test(values.head))
      throw new UsageError('--head is a hash: 64 hexadecimal digits.');
    if (!/^[1-9]\d{0,14}$/.test(values.from))
      throw new UsageError('--from is a sequence: a whole number from 1.');
    return { file, head: values.head, first: Number(values.from) };
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message);
  }
}

function describe({ valid, entries, problems, head, endKnown }: AuditFileReport, first: number): string {
  const count = `${entries} ${entries === 1 ? 'entry' : 'entries'}`;
  if (!valid) {
    return [
      ...problems.map(
        ({ line, kind, message }) => `${line === undefined ? '' : `line ${line}: `}${message} (${kind})`,
      ),
      `${count}, chain broken at entry ${problems[0]?.sequence}`,
      ...(first === 1 && problems[0]?.kind === 'missing' && problems[0].sequence === 1
        ? ['Where the export was asked to begin later, say so with --from.']
        : []),
      '',
    ].join('\n');
  }
  return [
    `${count}, chain intact, head ${head?.hash ?? 'none'}`,
    ...(first > 1 ? [`From entry ${first} on: what stands before it is not in this file.`] : []),
    ...(endKnown
      ? []
      : ['The last line of the export is missing: whether entries followed these cannot be proven.']),
    '',
  ].join('\n');
}
