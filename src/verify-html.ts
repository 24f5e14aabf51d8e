import { TESTS } from './verify-record.js';
import type { IsolationReport, ReportContent } from './verify-report.js';

type TestContent = ReportContent['tests'][number];

/** One page that needs nothing else: no script, no font, no picture. Everything that was read is escaped. */
export function reportPage({ content, signature }: IsolationReport, jsonName: string): string {
  const held = content.partial ? 'What was tried held.' : 'Tenants are kept apart.';
  const verdict = content.held ? held : 'Isolation did not hold.';
  const inShort = content.partial ? 'what was tried held' : 'held';
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex">
<title>Isolation report: ${content.held ? inShort : 'failed'}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<header class="${content.held ? 'held' : 'failed'}">
<p class="what">Isolation report</p>
<h1>${escaped(verdict)}</h1>
<p class="lead">${escaped(leadOf(content))}</p>
</header>

<section aria-label="What was tested">
<dl class="facts">
${facts(content)}
</dl>
</section>

${failuresOf(content)}
<section>
<h2>${content.partial ? 'The tests that were tried' : 'The seven tests'}</h2>
<p>${escaped(introductionOf(content))}</p>
${content.tests.map(testCard).join('\n')}
</section>

${notesOf(content)}
<section class="signature">
<h2>How to check this report</h2>
<p>The file <code>${escaped(jsonName)}</code> beside this page holds the same results and is signed with the key of the
installation (Ed25519 over RFC 8785 canonical JSON). Whoever has the settings of the installation checks it with the first
command; everybody else with the second, and the fingerprint that the operator has given them.</p>
<pre><code>npm run cli -- verify-isolation --check ${escaped(jsonName)}
npm run cli -- verify-isolation --check ${escaped(jsonName)} \\
  --key ${escaped(signature.fingerprint)}</code></pre>
<dl class="facts">
<div class="wide"><dt>Key fingerprint (SHA-256, RFC 7638)</dt><dd><code>${escaped(signature.fingerprint)}</code></dd></div>
<div class="wide"><dt>Signature</dt><dd><code>${escaped(signature.value)}</code></dd></div>
</dl>
<p class="small">This page itself is not signed: where it matters, trust the signed file.</p>
</section>
</main>
</body>
</html>
`;
}

function leadOf({ held, partial, cases, failure_count, tests }: ReportContent): string {
  // Not each is an attempt on somebody: the database is looked at, and what must be let in is tried, too.
  const tried = `${number(cases)} checks`;
  const only = partial
    ? ` Of the seven tests only ${tests.map(({ test }) => test).join(', ')} were tried.`
    : '';
  if (held) return `${tried}, and each ended as it must.${only}`;
  const failed = tests.filter(({ failure_count: count }) => count > 0).map(({ test }) => test);
  if (failed.length === 0)
    return `${tried}. Each ended as it must, but a test could not try anything.${only}`;
  return `${tried}; ${number(failure_count)} did not end as they must, in ${failed.join(', ')}.${only}`;
}

function introductionOf({ tests }: ReportContent): string {
  if (!tests.some(({ test, cases }) => test !== 'T5' && cases > 0))
    return 'The server looked at its own database. Nothing of any tenant was read.';
  return (
    'Two tenants were made for this, with people, knowledge bases and documents of their own. What is below was tried ' +
    'between those two, against the running installation; its database was looked at by the server itself. Nothing of other ' +
    'tenants was read. Counted are attempts to reach what belongs to somebody else, and what shows that those would be ' +
    'noticed: that everybody reaches what is their own.'
  );
}

function facts(content: ReportContent): string {
  const database = content.database === 'embedded' ? 'Embedded (PGlite)' : 'PostgreSQL server';
  const seconds = Math.round((Date.parse(content.ended_at) - Date.parse(content.started_at)) / 1000);
  return [
    ['Installation', content.address],
    ['Version', versionOf(content)],
    ['Database', database],
    ['Tested on', `${content.started_at.slice(0, 16).replace('T', ' ')} UTC, in ${number(seconds)} s`],
    ['Routes that read', number(content.routes)],
    ['Cases', number(content.cases)],
  ]
    .map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`)
    .join('\n');
}

/** What roles may, the command knows of its own version. */
const versionOf = ({ server_version: server, command_version: command }: ReportContent): string =>
  server === command ? server : `${server}, tried by the command of ${command}`;

function testCard({ test, title, cases, failure_count: failed }: TestContent): string {
  const held = failed === 0 && cases > 0;
  const word = held ? 'held' : failed > 0 ? `${number(failed)} failed` : 'not tried';
  return `<article class="test ${held ? 'held' : 'failed'}">
<h3><span class="name">${test}</span> <span>${escaped(title)}</span> <span class="verdict">${word}</span></h3>
<p>${escaped(TESTS[test].explanation)}</p>
<p class="count">${number(cases)} cases</p>
</article>`;
}

function failuresOf({ tests }: ReportContent): string {
  const failed = tests.filter(({ failures }) => failures.length > 0);
  if (failed.length === 0) return '';
  return `<section>
<h2>What did not hold</h2>
${failed
  .map(
    ({ test, title, failures }) => `<h3>${test} ${escaped(title)}</h3>
<ol class="failures">
${failures
  .map(
    ({ where, who, expected, got }) => `<li><p><code>${escaped(where)}</code></p>
<p>${escaped(who)}</p>
<p><b>Expected</b> ${escaped(expected)}<br><b>Got</b> ${escaped(got)}</p></li>`,
  )
  .join('\n')}
</ol>`,
  )
  .join('\n')}
</section>
`;
}

function notesOf({ tests, notes }: ReportContent): string {
  const all = [
    ...tests.flatMap(({ test, left_out: leftOut }) => leftOut.map(sentence => `${test}: ${sentence}`)),
    ...notes,
  ];
  if (all.length === 0) return '';
  return `<section>
<h2>What was left out, and what else there is to say</h2>
<ul class="notes">
${all.map(sentence => `<li>${escaped(sentence)}</li>`).join('\n')}
</ul>
</section>
`;
}

const number = (value: number): string => value.toLocaleString('en-US');

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

export const escaped = (text = ''): string =>
  text.replace(/[&<>"']/g, character => ENTITIES[character] as string);

const STYLE = `
:root { color-scheme: light; --ink: #1d2530; --soft: #5a6675; --line: #dde3ea; --good: #14693f; --bad: #a4262c; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 32px 20px 64px; }
header { background: var(--paper); border: 1px solid var(--line); border-top: 6px solid var(--good); border-radius: 10px; padding: 24px 28px; }
header.failed { border-top-color: var(--bad); }
.what { margin: 0; color: var(--soft); font-size: 14px; letter-spacing: .04em; text-transform: uppercase; }
h1 { margin: 4px 0 6px; font-size: 32px; line-height: 1.2; }
header.held h1 { color: var(--good); }
header.failed h1 { color: var(--bad); }
.lead { margin: 0; font-size: 18px; }
h2 { margin: 40px 0 12px; font-size: 21px; }
h3 { margin: 0 0 6px; font-size: 17px; }
p { margin: 0 0 10px; }
section > h3 { margin: 20px 0 8px; }
.facts { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 1px; margin: 16px 0 0; background: var(--line); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.facts div { background: var(--paper); padding: 12px 16px; }
.facts .wide { grid-column: 1 / -1; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; overflow-wrap: anywhere; }
.test { background: var(--paper); border: 1px solid var(--line); border-left: 5px solid var(--good); border-radius: 8px; padding: 14px 18px; margin: 10px 0; }
.test.failed { border-left-color: var(--bad); }
.test p { margin: 0; }
.test h3 { display: flex; gap: 8px; align-items: baseline; }
.test .name { color: var(--soft); font-weight: 600; }
.test .verdict { margin-left: auto; white-space: nowrap; font-size: 14px; font-weight: 600; color: var(--good); }
.test.failed .verdict { color: var(--bad); }
.test .count { margin-top: 6px; color: var(--soft); font-size: 14px; }
.failures { margin: 0; padding: 0 0 0 28px; }
.failures li { border-top: 1px solid var(--line); padding: 10px 0; }
.failures p { margin: 0; overflow-wrap: anywhere; }
.notes { padding-left: 22px; }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.small { margin-top: 10px; color: var(--soft); font-size: 14px; }
@media (max-width: 600px) {
  main { padding: 16px 12px 40px; }
  header { padding: 18px; }
  h1 { font-size: 26px; }
  .facts { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
}
@media print {
  body { background: #fff; font-size: 11pt; }
  main { max-width: none; padding: 0; }
  .test, .facts, header, .failures li { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
`;
