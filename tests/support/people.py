"""People for live tests: they register, sign in, and talk over real HTTP and real sockets."""

from __future__ import annotations

import itertools
import json
from copy import copy
from typing import Any, Self

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .server import CLOSE, Server

PASSWORD = "123456"
#: For an answer: a database that is silent is waited for twice, five seconds each.
SECONDS = 20

Frame = dict[str, Any]

_number = itertools.count(1)


def unused_name(stem: str) -> str:
    """A name that nobody has on this server yet."""
    return f"{stem}-{next(_number)}"


class Person:
    """Somebody with an account, signed in with a token."""

    def __init__(self, server: Server, stem: str = "alice") -> None:
        self.server = server
        self.name = unused_name(stem)
        credentials = {"username": self.name, "password": PASSWORD}
        registered = self._post("/register", credentials)
        assert registered.status_code == 201, registered.text
        self.id: int = registered.json()["id"]
        self.token = self.sign_in()

    def sign_in(self) -> str:
        credentials = {"username": self.name, "password": PASSWORD}
        answer = self._post("/login", credentials)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token

    def at(self, server: Server) -> Self:
        """The same person with the same token, at another server of the same database."""
        elsewhere = copy(self)
        elsewhere.server = server
        return elsewhere

    def get(self, path: str) -> requests.Response:
        return requests.get(self.server.url + path, headers=self.headers, timeout=SECONDS)

    def post(self, path: str, body: object = None) -> requests.Response:
        return requests.post(
            self.server.url + path, json=body, headers=self.headers, timeout=SECONDS
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **CLOSE}

    def talk(self) -> Talk:
        """A socket of theirs."""
        return Talk(
            connect(
                self.server.ws_url,
                additional_headers=self.headers,
                compression=None,
                max_queue=None,  # a close would wait for whoever has not read everything
            )
        )

    def history(self, query: str = "limit=200") -> list[Frame]:
        answer = self.get(f"/rooms/lobby/messages?{query}")
        assert answer.status_code == 200, answer.text
        messages: list[Frame] = answer.json()["messages"]
        return messages

    def _post(self, path: str, body: dict[str, str]) -> requests.Response:
        return requests.post(self.server.url + path, json=body, headers=CLOSE, timeout=SECONDS)


class Talk:
    """An open socket; ``hello`` has been read."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket.__enter__()  # closed by our __exit__, or by close()
        self.hello = self.next()
        assert self.hello["type"] == "hello"

    def next(self, *types: str) -> Frame:
        """The next frame of these types; or any but who comes and goes, as that is at any time."""
        while True:
            frame: Frame = json.loads(self.socket.recv(SECONDS))
            if frame["type"] in types or (not types and frame["type"] != "presence"):
                return frame

    def send(self, **frame: Any) -> None:
        self.socket.send(json.dumps(frame))

    def say(self, text: str, client_id: str | None = None, room: int | str = "lobby") -> Frame:
        """Send and wait for the ack."""
        client_id = client_id or unused_name("c")
        self.send(type="send", room=room, text=text, client_id=client_id)
        ack = self.next("ack", "error")
        assert ack["type"] == "ack", ack
        assert ack["client_id"] == client_id
        return ack

    def alive(self) -> bool:
        """Whether the socket still answers."""
        self.send(type="ping", client_id="alive")
        return self.next("pong") == {"type": "pong", "client_id": "alive"}

    def closed(self, seconds: float = SECONDS) -> int:
        """Wait until the server closes; the close code."""

        def read_on() -> None:
            while True:
                self.socket.recv(seconds)

        with pytest.raises(ConnectionClosed) as end:
            read_on()
        close = end.value.rcvd
        assert close is not None, "there was no close frame"
        return close.code

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
