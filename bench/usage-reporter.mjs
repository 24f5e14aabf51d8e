// Loaded into a measured process with --import: answers its parent's questions for what it has used so far.
import { isMainThread } from 'node:worker_threads';

if (isMainThread && process.channel) {
  process.on('message', question => {
    if (question === 'usage') process.send({ cpu: process.cpuUsage(), rss: process.memoryUsage.rss() });
  });
  // The channel to the parent must not keep the process alive.
  process.channel.unref();
}
