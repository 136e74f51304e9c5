"""A server of one room that speaks PROTOCOL, and can be told to go wrong; for tests of clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Self

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

Frame = dict[str, Any]

ROOM = 1
ALICE = {"id": 1, "username": "alice"}
BOB = {"id": 2, "username": "bob"}
WHEN = "2026-11-22T16:42:49.209734Z"


def message(rev: int, *, number: int | None = None, **changed: Any) -> Frame:
    """A message of the room; ``number`` is its id and seq, the rev by default."""
    number = number or rev
    return {
        "id": number,
        "room": ROOM,
        "seq": number,
        "rev": rev,
        "user": BOB,
        "kind": "text",
        "text": f"text {number}",
        "created_at": WHEN,
        **changed,
    }


def problem(status: int, code: str, **headers: str) -> Response:
    body = json.dumps({"title": "No", "status": status, "detail": "No.", "code": code}).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Content-Type": "application/problem+json", "Content-Length": str(len(body))}
    return Response(status, HTTPStatus(status).phrase, Headers(fields | names), body)


class FakeServer:
    """The log, and the faults: what they do is said where they are set."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._log: dict[int, Frame] = {}
        self._by_client_id: dict[str, Frame] = {}
        self._sockets: list[ServerConnection] = []
        self._server: Server | None = None
        self._port = 0
        self.head = 0
        #: Changes that a client may be behind before it is told ``reset``.
        self.reset_after = 1000
        #: Messages of a page of ``sync``.
        self.page = 3
        self.limits = {"text": 4000, "rate": 0}
        #: What was received, and the requests for a socket, all connections together.
        self.received: list[Frame] = []
        self.requests: list[Request] = []
        #: How many of the next acks are not sent.
        self.acks_to_lose = 0
        #: Answers for the next requests for a socket, instead of one.
        self.refusals: list[Response] = []
        #: Answers for the next requests for history, instead of it.
        self.history_refusals: list[Response] = []
        #: Called for a received frame; True if it has dealt with it.
        self.intercept: Callable[[ServerConnection, Frame], bool] = lambda _socket, _frame: False
        #: Makes of the frame that is pushed the frames that are.
        self.push: Callable[[Frame], Iterable[Frame]] = lambda frame: [frame]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def texts(self) -> list[str]:
        """What was said, in order."""
        with self._lock:
            return [m["text"] for m in sorted(self._log.values(), key=lambda m: m["seq"])]

    def of_type(self, kind: str) -> list[Frame]:
        return [frame for frame in self.received if frame.get("type") == kind]

    def say(self, text: str | None = None, user: Frame = BOB, **more: Any) -> Frame:
        """Somebody says something."""
        with self._lock:
            said = message(self.head + 1, user=user, **more)
            return self._commit(said if text is None else {**said, "text": text})

    def change(self, number: int, **changed: Any) -> Frame:
        """Somebody edits or deletes the message with this id."""
        with self._lock:
            return self._commit({**self._log[number], **changed, "rev": self.head + 1})

    def to_all(self, frame: Frame) -> None:
        with self._lock:
            for socket in list(self._sockets):
                self._send(socket, frame)

    def cut(self, code: int | None = None, reason: str = "") -> None:
        """End all connections: with a close frame, or without one."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for socket in sockets:
            if code is None:
                socket.close_socket()
            else:
                socket.close(code, reason)

    def _commit(self, new: Frame) -> Frame:
        self.head = new["rev"]
        self._log[new["id"]] = new
        for frame in self.push({"type": "message", **new}):
            self.to_all(frame)
        return new

    def _send(self, socket: ServerConnection, frame: Frame) -> None:
        try:
            socket.send(json.dumps(frame))
        except (ConnectionClosed, OSError):
            self._forget(socket)

    def _forget(self, socket: ServerConnection) -> None:
        with self._lock:
            if socket in self._sockets:
                self._sockets.remove(socket)

    def _serve(self, socket: ServerConnection) -> None:
        with self._lock:
            room = {"id": ROOM, "name": "lobby", "kind": "public", "topic": "", "members": 2}
            hello = {
                "type": "hello",
                "protocol": 1,
                "user": ALICE,
                "session": 1,
                "worker": "fake",
                "rooms": [{**room, "head": self.head}],
                "online": [1],
                "limits": self.limits,
                "heartbeat": 25,
            }
            self._send(socket, hello)
            self._sockets.append(socket)
        try:
            for data in socket:
                frame = json.loads(data)
                with self._lock:
                    self.received.append(frame)
                    if not self.intercept(socket, frame):
                        self._answer(socket, frame)
        except ConnectionClosed:
            pass
        finally:
            self._forget(socket)

    def _answer(self, socket: ServerConnection, frame: Frame) -> None:
        if frame["type"] == "sync":
            self._send(socket, self._changes(frame["since"]))
            return
        assert frame["type"] == "send", frame
        said = self._by_client_id.get(frame["client_id"])
        if said is None:
            said = self.say(frame["text"], ALICE, client_id=frame["client_id"])
            self._by_client_id[frame["client_id"]] = said
        if self.acks_to_lose:
            self.acks_to_lose -= 1
            return
        names = ("client_id", "id", "room", "seq", "rev", "created_at")
        self._send(socket, {"type": "ack", **{name: said[name] for name in names}})

    def _changes(self, since: int) -> Frame:
        new = sorted((m for m in self._log.values() if m["rev"] > since), key=lambda m: m["rev"])
        if since > self.head or len(new) > self.reset_after:
            return {"type": "reset", "room": ROOM, "head": self.head}
        page = {"messages": new[: self.page], "head": self.head, "more": len(new) > self.page}
        return {"type": "sync", "room": ROOM, **page}

    def _http(self, _socket: ServerConnection, request: Request) -> Response | None:
        if request.path == "/ws":
            self.requests.append(request)
            return self.refusals.pop(0) if self.refusals else None
        if self.history_refusals:
            return self.history_refusals.pop(0)
        with self._lock:
            messages = sorted(self._log.values(), key=lambda m: m["seq"])[-50:]
            page = {"messages": messages, "has_before": True, "has_after": False, "head": self.head}
        body = json.dumps(page).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return Response(200, "OK", Headers(fields), body)

    def start(self) -> Self:
        """Listen, on the same port as before."""
        self._server = serve(
            self._serve, "127.0.0.1", self._port, process_request=self._http, compression=None
        )
        self._port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever).start()
        return self

    def stop(self) -> None:
        """As a crash would: nobody listens, and all connections are gone."""
        assert self._server is not None
        self._server.shutdown()
        self.cut()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
