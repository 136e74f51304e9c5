// Node and ws: the broadcast of ws's README, with rooms.
const { WebSocketServer, WebSocket } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096,
});
const rooms = new Map();

server.on('connection', (ws, request) => {
  const joined = new URL(request.url, 'http://localhost').searchParams.get('rooms').split(',');
  for (const room of joined) {
    if (!rooms.has(room)) rooms.set(room, new Set());
    rooms.get(room).add(ws);
  }
  ws.on('error', () => {});
  ws.on('close', () => joined.forEach((room) => rooms.get(room).delete(ws)));
  ws.on('message', (data) => {
    const said = data.toString();
    const space = said.indexOf(' ');
    const text = said.slice(space + 1);
    for (const client of rooms.get(said.slice(0, space))) {
      if (client.readyState === WebSocket.OPEN) client.send(text);
    }
  });
});
