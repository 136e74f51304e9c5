"""The websockets library: its broadcast(), on uvloop; rooms are sets, as in its documentation."""

import sys
from urllib.parse import parse_qs, urlsplit

import uvloop
from websockets.asyncio.server import broadcast, serve

ROOMS = {}


async def handler(websocket):
    rooms = parse_qs(urlsplit(websocket.request.path).query)["rooms"][0].split(",")
    for room in rooms:
        ROOMS.setdefault(room, set()).add(websocket)
    try:
        async for message in websocket:
            room, _, text = message.partition(" ")
            broadcast(ROOMS[room], text)
    finally:
        for room in rooms:
            ROOMS[room].discard(websocket)


async def main():
    port = int(sys.argv[1])
    async with serve(
        handler, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096
    ) as server:
        await server.serve_forever()


uvloop.run(main())
