// Loaded into a server with --import: its clock is ahead by the milliseconds that stand in the file CLOCK_FILE.
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const LOOK_EVERY_MS = 50;
const file = process.env.CLOCK_FILE;

if (isMainThread && file) {
  const RealDate = Date;
  const now = RealDate.now.bind(RealDate);
  let ahead = 0;
  setInterval(() => {
    try {
      ahead = Number(readFileSync(file, 'utf8')) || 0;
    } catch {
      // Not written yet.
    }
  }, LOOK_EVERY_MS).unref();
  globalThis.Date = class Date extends RealDate {
    constructor(...values) {
      if (values.length === 0) super(now() + ahead);
      else super(...values);
    }

    static now() {
      return now() + ahead;
    }
  };
}
