// Servers and clients with the package `ws`: `node node.js serve`, `node node.js talk URL`.
const { once } = require('events');
const { WebSocket, WebSocketServer } = require('ws');

function serve() {
  const server = new WebSocketServer({
    host: '127.0.0.1', port: 0, maxPayload: 0, perMessageDeflate: { threshold: 0 },
    handleProtocols: (offered) => [...offered][0],
  });
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => {
      if (data.toString() === 'leave') socket.close(4002, 'as you wish');
      else socket.send(data, { binary: isBinary });
    });
  });
  server.on('listening', () => console.log('port ' + server.address().port));
}

async function talk(url) {
  const socket = new WebSocket(url, ['one', 'two'], { perMessageDeflate: { threshold: 0 } });
  await once(socket, 'open');
  console.log('protocol ' + socket.protocol);
  console.log('extensions ' + socket.extensions);
  for (const text of ['hello', '', 'x'.repeat(125), 'ü'.repeat(63), 'z'.repeat(1 << 20)]) {
    socket.send(text);
    const [data, isBinary] = await once(socket, 'message');
    if (isBinary || data.toString() !== text) throw new Error('another text came back');
  }
  for (const length of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
    const sent = require('crypto').randomBytes(length);
    socket.send(sent, { fin: false });
    socket.send(sent, { fin: true });
    const [data, isBinary] = await once(socket, 'message');
    if (!isBinary || !data.equals(Buffer.concat([sent, sent]))) throw new Error('other bytes');
  }
  socket.ping('are you there');
  const [pong] = await once(socket, 'pong');
  if (pong.toString() !== 'are you there') throw new Error('another pong');
  socket.send('leave');
  const [code, reason] = await once(socket, 'close');
  console.log(`closed ${code} ${reason}`);
}

const [, , what, url] = process.argv;
if (what === 'serve') serve();
else talk(url).catch((error) => { console.error(error); process.exit(1); });
