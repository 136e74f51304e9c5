"""FastAPI and uvicorn: the ConnectionManager of FastAPI's page on WebSockets, with rooms."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


class ConnectionManager:
    def __init__(self):
        self.rooms = {}

    async def connect(self, websocket, rooms):
        await websocket.accept()
        for room in rooms:
            self.rooms.setdefault(room, []).append(websocket)

    def disconnect(self, websocket, rooms):
        for room in rooms:
            self.rooms[room].remove(websocket)

    async def broadcast(self, room, text):
        for connection in list(self.rooms[room]):
            await connection.send_text(text)


manager = ConnectionManager()


@app.websocket("/ws")
async def endpoint(websocket: WebSocket, rooms: str):
    joined = rooms.split(",")
    await manager.connect(websocket, joined)
    try:
        while True:
            room, _, text = (await websocket.receive_text()).partition(" ")
            await manager.broadcast(room, text)
    except (WebSocketDisconnect, RuntimeError):
        manager.disconnect(websocket, joined)
