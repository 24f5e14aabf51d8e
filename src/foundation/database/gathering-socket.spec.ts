import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, it } from 'vitest';
import { GatheringSocket } from './gathering-socket.js';

it('sends what is written in one turn of the event loop together, and the next turn’s apart', async () => {
  const packets: string[] = [];
  const server = createServer(socket => {
    socket.setNoDelay(true);
    socket.on('data', data => packets.push(data.toString()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = new GatheringSocket();
  socket.setNoDelay(true);
  socket.connect((server.address() as AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');

  socket.write('begin, ');
  await Promise.resolve();
  socket.write(Buffer.from('ask, '));
  socket.write('commit', 'utf8', () => undefined);
  await expect.poll(() => packets).toHaveLength(1);
  socket.end('more');
  await once(socket, 'close');
  expect(packets).toEqual(['begin, ask, commit', 'more']);
  server.close();
});
