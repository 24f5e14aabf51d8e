import { build } from '../../scripts/build.mjs';
import { SERVER, prepareTemplate } from './database.js';

export default async function setup(): Promise<void> {
  await prepareTemplate();
  // For the tests that kill a process: it is the compiled one.
  if (!SERVER && !process.env['TEST_SKIP_BUILD']) await build();
}
