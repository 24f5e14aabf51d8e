import { writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { type Failure, REPORT, type Report } from './spec-run.js';

/** Writes down what a run came to: of failures also what was received, which Vitest's own report in JSON leaves out. */
export default class SpecReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const report: Report = { passed: [], failed: [], broken: [] };
    for (const module of modules) {
      const spec = relative(process.cwd(), module.moduleId);
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result();
        if (state === 'passed') report.passed.push({ spec, name: nameOf(test) });
        if (state === 'failed')
          report.failed.push({ spec, name: nameOf(test), failures: errors.map(failureOf) });
      }
      const around = [module, ...module.children.allSuites()].flatMap(suite => suite.errors());
      if (around.length > 0)
        report.broken.push({ spec, name: 'its preparation', failures: around.map(failureOf) });
    }
    writeFileSync(join(process.cwd(), REPORT), JSON.stringify(report));
  }
}

/** As `--testNamePattern` sees it. */
function nameOf(test: TestCase): string {
  const names: string[] = [];
  for (
    let task: TestCase | TestCase['parent'] = test;
    task.type !== 'module';
    task = task.parent as TestCase['parent']
  )
    names.unshift(task.name);
  return names.join(' ');
}

function failureOf(error: ReturnType<TestModule['errors']>[number]): Failure {
  const { name = 'Error', message, diff, stack = '' } = error;
  const received = stripVTControlCharacters(typeof diff === 'string' ? diff : '')
    .split('\n')
    .filter(line => /^\+(?! Received)/.test(line));
  // Helpers are called by a line of the test, which says more.
  const places = [...stack.matchAll(/(?:\(|at |file:\/\/)(\/[^\s()]+):(\d+):\d+/g)]
    .map(([, file, line]) => `${relative(process.cwd(), file as string)}:${line}`)
    .filter(place => place.startsWith('test/') || place.startsWith('src/'));
  const at = places.find(place => place.includes('.spec.ts:')) ?? places[0] ?? null;
  return { error: name, message: stripVTControlCharacters(message), received, at };
}
