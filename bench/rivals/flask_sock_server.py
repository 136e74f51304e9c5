"""flask-sock under gunicorn and gevent: a plain loop over the clients, as in most tutorials."""

from flask import Flask, request
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)
rooms = {}


@sock.route("/ws")
def talk(ws):
    joined = request.args["rooms"].split(",")
    for room in joined:
        rooms.setdefault(room, set()).add(ws)
    try:
        while True:
            room, _, text = ws.receive().partition(" ")
            for client in list(rooms[room]):
                client.send(text)
    finally:
        for room in joined:
            rooms[room].discard(ws)
