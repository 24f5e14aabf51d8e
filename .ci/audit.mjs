// Asks the registry for known vulnerabilities of what is shipped, and fails on those that are high or critical. A registry
// that does not answer such questions fails nothing, unless AUDIT_REQUIRED=true says that it has to answer.
import { spawnSync } from 'node:child_process';

const FAILING = ['critical', 'high'];
const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
  encoding: 'utf8',
  timeout: 60_000,
  maxBuffer: 64 * 1024 * 1024,
});

let report = {};
try {
  // Where npm could not be started there is nothing, and nothing is parsed to null.
  report = JSON.parse(stdout) ?? {};
} catch {
  // Said below.
}

const counts = report.metadata?.vulnerabilities;
if (!counts) {
  const why = String(report.message ?? report.error?.summary ?? 'the registry does not answer').split(
    '\n',
    1,
  )[0];
  process.stdout.write(`The audit of dependencies is not possible here: ${why}\n`);
  process.exit(process.env.AUDIT_REQUIRED === 'true' ? 1 : 0);
}
for (const { name, severity, range, via } of Object.values(report.vulnerabilities)) {
  const titles = via.flatMap(advisory =>
    typeof advisory === 'string' ? [] : [`${advisory.title} ${advisory.url}`],
  );
  process.stdout.write(`${severity}: ${name} ${range}${titles.map(title => `\n  ${title}`).join('')}\n`);
}
const failing = FAILING.reduce((sum, severity) => sum + counts[severity], 0);
process.stdout.write(`${counts.total} known vulnerabilities, ${failing} of them high or critical\n`);
process.exit(failing > 0 ? 1 : 0);
