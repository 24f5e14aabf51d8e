import { defineConfig } from 'vitest/config';

export default defineConfig({
  // Nest's dependency injection and TypeORM read the types that decorators emit.
  oxc: { decorator: { legacy: true, emitDecoratorMetadata: true } },
  test: {
    include: ['src/**/*.spec.ts', 'test/**/*.spec.ts'],
    environment: 'node',
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // Loading the application takes longer than many a test of it: a worker does it once for all its files. What a file
    // changes for its whole process (spies, clocks, variables of the environment) it puts back.
    isolate: false,
    // Half of a test's time is waiting: two workers leave two cores idle for a third of it.
    maxWorkers: 3,
    // As Node does it: the default export of a CommonJS module is its module.exports.
    deps: { interopDefault: false },
    globalSetup: 'test/setup/global-setup.ts',
    setupFiles: 'test/setup/compiled-workers.ts',
  },
});
