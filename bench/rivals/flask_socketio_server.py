"""Flask-SocketIO under gunicorn and gevent, as its documentation deploys it; rooms are its own."""

from flask import Flask, request
from flask_socketio import SocketIO, join_room, send

app = Flask(__name__)
# No pings while bytes are counted.
socketio = SocketIO(app, async_mode="gevent", ping_interval=3600, cors_allowed_origins="*")


@socketio.on("connect")
def connect():
    for room in request.args["rooms"].split(","):
        join_room(room)


@socketio.on("message")
def message(data):
    room, _, text = data.partition(" ")
    send(text, to=room)
