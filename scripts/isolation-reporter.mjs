// A reporter of vitest: writes what `npm run test:isolation` shows into the file that ISOLATION_RESULTS names.
import { writeFileSync } from 'node:fs';
import { rowOf } from './isolation-table.mjs';

export default class IsolationReporter {
  /** @param {readonly import('vitest/node').TestModule[]} modules */
  onTestRunEnd(modules) {
    const path = process.env.ISOLATION_RESULTS;
    if (path) writeFileSync(path, JSON.stringify(modules.flatMap(module => testsOf(module))));
  }
}

/** @param {import('vitest/node').TestModule} module */
function testsOf(module) {
  const file = module.relativeModuleId;
  const found = [];
  const add = (names, cases, failed, row = rowOf(names, file)) =>
    found.push({ row, name: [file, ...names].join(' > '), cases, failed });
  for (const test of module.children.allTests()) {
    const { state } = test.result();
    if (state !== 'skipped') add(namesOf(test), test.meta().casesTried ?? 0, state !== 'passed');
  }
  // What fails while it sets up has no failed test.
  for (const suite of module.children.allSuites()) {
    if (suite.errors().length > 0) add([...namesOf(suite), '(set up)'], 0, true);
  }
  if (module.errors().length > 0) {
    const [first] = module.children.allTests();
    add(['(set up)'], 0, true, first ? rowOf(namesOf(first), file) : rowOf([], file));
  }
  return found;
}

/** From the outermost describe inwards. */
function namesOf(task) {
  return task.type === 'module' ? [] : [...namesOf(task.parent), task.name];
}
