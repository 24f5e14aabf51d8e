/** The stub embedding server of the tests, as a process. */
import { startModelServer } from '../test/setup/model-server.js';

const server = await startModelServer();
console.log(server.url);
